//! What a cache promises, asked of every backend: the same suite over a real redis-server, a cluster of three and the
//! embedded map, then what only one of them can show.

#[path = "cache/causes.rs"]
mod causes;
#[path = "cache/client.rs"]
mod client;
#[path = "cache/embedded.rs"]
mod embedded;
#[path = "cache/greeting.rs"]
mod greeting;
#[path = "cache/middlebox.rs"]
mod middlebox;
#[path = "cache/model.rs"]
mod model;
#[path = "cache/redis.rs"]
mod redis_only;
#[path = "cache/refusals.rs"]
mod refusals;
#[path = "cache/remembered.rs"]
mod remembered;
#[path = "cache/rewatched.rs"]
mod rewatched;
#[path = "cache/rights.rs"]
mod rights;
#[path = "cluster/servers/mod.rs"]
#[allow(dead_code, unused_imports)]
mod servers;
#[path = "cache/streamed.rs"]
mod streamed;
#[path = "cache/suite.rs"]
mod suite;
#[path = "cache/support.rs"]
mod support;
#[path = "cache/versions.rs"]
mod versions;

macro_rules! on_every_backend {
    ($($suite:ident::$promise:ident),* $(,)?) => {
        mod on_redis {
            $(
                #[tokio::test]
                async fn $promise() {
                    let server = crate::support::RedisServer::start(&[]);
                    crate::$suite::$promise(&server.cache()).await;
                }
            )*
        }

        mod on_cluster {
            /// One after the other, for a cluster takes a while to start.
            #[tokio::test]
            async fn every_promise() {
                let cluster = crate::servers::Cluster::start(3, 0);
                let settings = redis_cache_sync::redis::Settings::new("127.0.0.1", cluster.servers[1].port);
                $(
                    println!("{}", stringify!($promise));
                    cluster.flush();
                    let cache = redis_cache_sync::cache::redis::ClusterCache::new(settings.clone(), Vec::new()).unwrap();
                    crate::$suite::$promise(&cache).await;
                )*
            }
        }

        mod on_embedded {
            $(
                #[tokio::test]
                async fn $promise() {
                    let cache = redis_cache_sync::cache::embedded::EmbeddedCache::new(256 << 20, "rcs:v:", std::time::Duration::from_secs(60));
                    crate::$suite::$promise(&cache).await;
                }
            )*
        }
    };
}

on_every_backend!(
    suite::every_command_gives_its_reply,
    suite::values_come_back_byte_for_byte,
    suite::large_values_come_back_byte_for_byte,
    suite::commands_of_a_batch_take_effect_in_order,
    suite::answers_belong_to_their_commands_however_long_a_run,
    suite::no_value_is_never_taken_for_an_empty_one,
    suite::reads_and_writes_of_one_large_key_keep_their_order,
    suite::a_ttl_runs_from_the_write_and_the_next_write_replaces_it,
    suite::a_value_beyond_the_limit_is_not_brought_over,
    suite::a_scan_brings_every_key,
    suite::a_scan_can_be_narrowed_to_a_pattern,
    suite::a_scan_hides_the_prefix_of_the_service,
    suite::unlink_counts_what_was_there,
    suite::groups_are_counted_apart_and_gone_before_the_scan_goes_on,
    suite::sessions_see_what_others_wrote,
    suite::an_empty_batch_has_no_results,
    versions::only_a_greater_version_takes_effect,
    versions::a_deleted_key_does_not_come_back,
    versions::versions_have_the_order_of_the_contract,
    versions::what_a_storage_tells_is_applied_again_at_its_own_place_and_a_set_comes_before_a_delete_there,
    versions::without_a_version_a_write_takes_effect_and_leaves_the_version,
    versions::a_value_with_a_version_is_stored_as_it_is_and_expires,
    versions::an_equal_version_is_applied_once_more_if_the_key_is_gone,
    versions::a_long_batch_takes_effect_in_order,
    versions::a_pattern_with_a_version_leaves_what_is_newer_and_raises_what_has_one,
    versions::a_scan_shows_version_keys_only_as_the_keys_they_guard,
    remembered::a_look_tells_what_would_be_superseded_and_what_is_remembered,
    remembered::a_look_tells_the_last_version_and_whether_there_is_a_value,
    remembered::what_is_known_again_stands_with_a_new_time_to_live_and_a_greater_version,
    remembered::nothing_else_is_taken_for_the_value_that_is_remembered,
    remembered::whatever_deletes_or_writes_without_an_etag_forgets_it,
    remembered::looks_stand_between_other_commands_in_their_order,
);
