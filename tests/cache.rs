//! What a cache promises, asked of every backend: the same suite over a real redis-server and over the embedded map,
//! then what only one of them can show.

#[path = "cache/embedded.rs"]
mod embedded;
#[path = "cache/model.rs"]
mod model;
#[path = "cache/redis.rs"]
mod redis_only;
#[path = "cache/suite.rs"]
mod suite;
#[path = "cache/support.rs"]
mod support;

macro_rules! on_every_backend {
    ($($promise:ident),* $(,)?) => {
        mod on_redis {
            $(
                #[tokio::test]
                async fn $promise() {
                    let server = crate::support::RedisServer::start(&[]);
                    crate::suite::$promise(&server.cache()).await;
                }
            )*
        }

        mod on_embedded {
            $(
                #[tokio::test]
                async fn $promise() {
                    let cache = redis_cache_sync::cache::embedded::EmbeddedCache::new(256 << 20, "rcs:v:");
                    crate::suite::$promise(&cache).await;
                }
            )*
        }
    };
}

on_every_backend!(
    every_command_gives_its_reply,
    values_come_back_byte_for_byte,
    large_values_come_back_byte_for_byte,
    commands_of_a_batch_take_effect_in_order,
    no_value_is_never_taken_for_an_empty_one,
    reads_and_writes_of_one_large_key_keep_their_order,
    a_ttl_runs_from_the_write_and_the_next_write_replaces_it,
    a_value_beyond_the_limit_is_not_brought_over,
    a_scan_brings_every_key,
    a_scan_can_be_narrowed_to_a_pattern,
    a_scan_hides_the_prefix_of_the_service,
    unlink_counts_what_was_there,
    groups_are_counted_apart_and_gone_before_the_scan_goes_on,
    sessions_see_what_others_wrote,
    an_empty_batch_has_no_results,
);
