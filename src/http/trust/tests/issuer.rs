use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::future::join_all;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::super::{FetchDocument, Fetched, Issuer, IssuerSettings, Unproven};
use super::{Documents, documents, rsa, run, signed_by_rsa};

const ISSUER: &str = "https://issuer.example/tenant/v2.0";
const AUDIENCE: &str = "https://cache.example/sources/blobs";

fn rsa_jwk(id: &str) -> Value {
    let components = PublicKeyComponents::<Vec<u8>>::from(rsa().public());
    json!({"kty": "RSA", "use": "sig", "kid": id, "n": BASE64.encode(components.n), "e": BASE64.encode(components.e)})
}

fn publish(documents: &Documents, issuer: &str, keys: &[Value]) {
    let discovery = json!({"issuer": issuer, "jwks_uri": "https://issuer.example/keys", "authorization_endpoint": "x"});
    documents.publish(&format!("{issuer}/.well-known/openid-configuration"), discovery.to_string());
    documents.publish("https://issuer.example/keys", json!({"keys": keys}).to_string());
}

fn issuer_of(name: &str, subjects: &[&str], documents: Arc<Documents>) -> Issuer {
    let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    Issuer::new(IssuerSettings { name: name.into(), audience: AUDIENCE.into(), subjects }, documents)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": now() + 600, "iat": now(), "sub": "1", "email": "a@b"})
}

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

fn token(header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    format!("{text}.{}", BASE64.encode(signed_by_rsa(text.as_bytes())))
}

fn by_rsa(claims: &Value) -> String {
    token(&json!({"alg": "RS256", "kid": "k1", "typ": "JWT"}), claims)
}

/// What becomes of a token with these claims laid over good ones.
async fn verdict(issuer: &Issuer, changed: Value) -> Result<(), Unproven> {
    let mut all = claims();
    for (name, value) in changed.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    issuer.verify(&by_rsa(&all)).await
}

fn refused(verdict: Result<(), Unproven>, why: &str) {
    match verdict {
        Err(Unproven::Refused(detail)) => assert!(detail.contains(why), "{why}: {detail}"),
        other => panic!("{why}: {other:?}"),
    }
}

#[test]
fn a_token_of_the_issuer_for_the_audience_and_of_now_is_good_and_no_other() {
    run(async {
        let documents = documents();
        publish(&documents, ISSUER, &[json!({"kty": "oct", "k": "AAAA"}), json!(7), rsa_jwk("k0"), rsa_jwk("k1")]);
        let issuer = issuer_of(ISSUER, &[], documents.clone());
        for good in
            [json!({}), json!({"aud": ["other", AUDIENCE]}), json!({"exp": now() - 50}), json!({"nbf": now() + 50})]
        {
            assert_eq!(verdict(&issuer, good.clone()).await, Ok(()), "{good}");
        }
        for (bad, why) in [
            (json!({"exp": now() - 70}), "expired"),
            (json!({"nbf": now() + 70}), "not valid yet"),
            (json!({"aud": "other"}), "another audience"),
            (json!({"aud": []}), ""),
            (json!({"aud": null}), "claims"),
            (json!({"exp": null}), "claims"),
            (json!({"exp": "9999999999"}), ""),
            (json!({"nbf": "soon"}), ""),
            (json!({"iss": "https://issuer.example/other/v2.0"}), "another issuer"),
            (json!({"iss": null}), "claims"),
        ] {
            refused(verdict(&issuer, bad.clone()).await, why);
        }
        assert_eq!(documents.asked().len(), 2, "keys are kept");
    });
}

#[test]
fn only_what_is_signed_with_a_published_key_by_an_algorithm_that_is_let_in_is_good() {
    run(async {
        let documents = documents();
        publish(
            &documents,
            ISSUER,
            &[rsa_jwk("k1"), json!({"kty": "RSA", "use": "enc", "kid": "k2", "n": rsa_jwk("")["n"], "e": "AQAB"})],
        );
        let issuer = issuer_of(ISSUER, &[], documents.clone());
        assert_eq!(
            issuer.verify(&token(&json!({"alg": "RS256"}), &claims())).await,
            Ok(()),
            "no name: any of the keys"
        );
        refused(issuer.verify(&token(&json!({"alg": "RS256", "kid": "k2"}), &claims())).await, "does not publish");
        let good = by_rsa(&claims());
        let (text, signature) = good.rsplit_once('.').unwrap();
        refused(issuer.verify(&format!("{text}.{}", BASE64.encode([0; 256]))).await, "signature");
        let other = by_rsa(&json!({"iss": ISSUER, "aud": AUDIENCE, "exp": now() + 6000}));
        refused(issuer.verify(&format!("{}.{signature}", other.rsplit_once('.').unwrap().0)).await, "signature");
        // The published key taken for a shared secret, or no signature at all.
        for algorithm in ["none", "HS256", "RS512", "PS256"] {
            let header = json!({"alg": algorithm, "kid": "k1"});
            refused(issuer.verify(&token(&header, &claims())).await, "not a JWT");
            let unsigned = format!("{}.{}.", part(&header), part(&claims()));
            assert!(issuer.verify(&unsigned).await.is_err());
        }
        for text in ["", "a", "a.b.c", "..", "e30.e30.e30", "🦀.e30.e30"] {
            refused(issuer.verify(text).await, "not a JWT");
        }
    });
}

#[test]
fn es256_is_good_too() {
    run(async {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "e", "x": BASE64.encode(x), "y": BASE64.encode(y)});
        let documents = documents();
        publish(&documents, ISSUER, &[rsa_jwk("k1"), jwk]);
        let issuer = issuer_of(ISSUER, &[], documents);
        let text = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "e"})), part(&claims()));
        let signature = key.sign(&random, text.as_bytes()).unwrap();
        assert_eq!(issuer.verify(&format!("{text}.{}", BASE64.encode(signature))).await, Ok(()));
        refused(issuer.verify(&format!("{text}x.{}", BASE64.encode(signature))).await, "");
        refused(issuer.verify(&token(&json!({"alg": "RS256", "kid": "e"}), &claims())).await, "does not publish");
    });
}

#[test]
fn keys_are_fetched_again_for_an_unknown_one_but_not_for_each() {
    run(async {
        let documents = documents();
        publish(&documents, ISSUER, &[rsa_jwk("k1")]);
        let issuer = issuer_of(ISSUER, &[], documents.clone());
        assert_eq!(issuer.verify(&by_rsa(&claims())).await, Ok(()));
        documents.asked();
        for id in 0..100 {
            let unknown = token(&json!({"alg": "RS256", "kid": id.to_string()}), &claims());
            refused(issuer.verify(&unknown).await, "does not publish");
        }
        assert_eq!(documents.asked().len(), 0, "they were fetched just now");
        assert_eq!(issuer.verify(&by_rsa(&claims())).await, Ok(()));
    });
}

#[test]
fn an_issuer_without_keys_proves_nothing_yet() {
    run(async {
        let documents = documents();
        let issuer = issuer_of(ISSUER, &[], documents.clone());
        for _ in 0..20 {
            assert!(matches!(issuer.verify(&by_rsa(&claims())).await, Err(Unproven::Unavailable(_))));
        }
        assert_eq!(documents.asked().len(), 1, "and is not asked for each request");
        for (other, keys) in [
            ("https://evil.example", vec![rsa_jwk("k1")]),
            (ISSUER, vec![]),
            (ISSUER, vec![json!({"kty": "oct", "k": "AAAA"})]),
        ] {
            documents.withdraw();
            let discovery = json!({"issuer": other, "jwks_uri": "https://issuer.example/keys"});
            documents.publish(&format!("{ISSUER}/.well-known/openid-configuration"), discovery.to_string());
            documents.publish("https://issuer.example/keys", json!({"keys": keys}).to_string());
            let issuer = issuer_of(ISSUER, &[], documents.clone());
            assert!(
                matches!(issuer.verify(&by_rsa(&claims())).await, Err(Unproven::Unavailable(_))),
                "{other} {keys:?}"
            );
        }
    });
}

#[test]
fn a_key_that_is_new_while_its_issuer_cannot_be_asked_proves_nothing_yet() {
    run(async {
        let documents = documents();
        publish(&documents, ISSUER, &[rsa_jwk("k1")]);
        let issuer = issuer_of(ISSUER, &[], documents.clone());
        assert_eq!(issuer.verify(&by_rsa(&claims())).await, Ok(()));
        documents.withdraw();
        issuer.age(Duration::from_secs(60)).await;
        let new = token(&json!({"alg": "RS256", "kid": "k2"}), &claims());
        for _ in 0..2 {
            assert!(matches!(issuer.verify(&new).await, Err(Unproven::Unavailable(_))));
            assert_eq!(issuer.verify(&by_rsa(&claims())).await, Ok(()), "the keys that were fetched are still good");
        }
        publish(&documents, ISSUER, &[rsa_jwk("k2")]);
        issuer.age(Duration::from_secs(60)).await;
        assert_eq!(issuer.verify(&new).await, Ok(()));
        refused(issuer.verify(&by_rsa(&claims())).await, "does not publish");
    });
}

/// A fetch that takes longer than it takes to fetch again after a failure, and then fails.
#[derive(Default)]
struct Hung {
    asked: AtomicUsize,
}

const HUNG: Duration = Duration::from_millis(5500);

impl FetchDocument for Hung {
    fn fetch(&self, _: &str, _: &str) -> Fetched {
        self.asked.fetch_add(1, Relaxed);
        Box::pin(async {
            actix_rt::time::sleep(HUNG).await;
            Err("timed out".to_owned())
        })
    }
}

#[test]
fn whoever_waits_for_an_issuer_that_hangs_waits_for_one_fetch() {
    run(async {
        let hung = Arc::new(Hung::default());
        let settings = IssuerSettings { name: ISSUER.into(), audience: AUDIENCE.into(), subjects: vec![] };
        let issuer = Issuer::new(settings, hung.clone());
        let (token, begun) = (by_rsa(&claims()), Instant::now());
        for verdict in join_all((0..5).map(|_| issuer.verify(&token))).await {
            assert!(matches!(verdict, Err(Unproven::Unavailable(_))), "{verdict:?}");
        }
        assert!(begun.elapsed() < 2 * HUNG, "{:?}", begun.elapsed());
        assert_eq!(hung.asked.load(Relaxed), 1);
    });
}

#[test]
fn keys_beyond_the_bound_are_left_out() {
    run(async {
        let documents = documents();
        let many: Vec<Value> = (0..1000).map(|id| rsa_jwk(&id.to_string())).collect();
        publish(&documents, ISSUER, &many);
        let issuer = issuer_of(ISSUER, &[], documents);
        assert_eq!(issuer.verify(&token(&json!({"alg": "RS256", "kid": "63"}), &claims())).await, Ok(()));
        refused(issuer.verify(&token(&json!({"alg": "RS256", "kid": "64"}), &claims())).await, "does not publish");
    });
}

#[test]
fn google_may_leave_out_its_scheme() {
    run(async {
        let (documents, google) = (documents(), "https://accounts.google.com");
        publish(&documents, google, &[rsa_jwk("k1")]);
        let issuer = issuer_of(google, &[], documents);
        for name in [google, "accounts.google.com"] {
            assert_eq!(verdict(&issuer, json!({"iss": name})).await, Ok(()), "{name}");
        }
        refused(verdict(&issuer, json!({"iss": "accounts.google.com.evil"})).await, "another issuer");
    });
}

#[test]
fn a_token_must_be_of_an_account_that_is_let_in_where_some_are_named() {
    run(async {
        let documents = documents();
        publish(&documents, ISSUER, &[rsa_jwk("k1")]);
        let issuer = issuer_of(ISSUER, &["push@p.iam.gserviceaccount.com", "4962773b"], documents);
        for good in [
            json!({"email": "push@p.iam.gserviceaccount.com", "email_verified": true}),
            json!({"sub": "push@p.iam.gserviceaccount.com"}),
            json!({"appid": "4962773b"}),
            json!({"azp": "4962773b"}),
        ] {
            assert_eq!(verdict(&issuer, good.clone()).await, Ok(()), "{good}");
        }
        for bad in [
            json!({}),
            json!({"email": "push@p.iam.gserviceaccount.com"}),
            json!({"email": "push@p.iam.gserviceaccount.com", "email_verified": false}),
            json!({"email": ["push@p.iam.gserviceaccount.com"], "email_verified": true}),
            json!({"sub": null}),
            json!({"appid": "4962773"}),
        ] {
            refused(verdict(&issuer, bad.clone()).await, "oidc_subjects");
        }
    });
}
