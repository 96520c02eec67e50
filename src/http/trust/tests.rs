mod issuer;
mod sns;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::{FetchDocument, Fetched};

/// What is published, by URL, and what was asked for.
#[derive(Default)]
struct Documents {
    published: Mutex<HashMap<String, Bytes>>,
    asked: Mutex<Vec<String>>,
}

impl Documents {
    fn publish(&self, url: &str, document: impl Into<Bytes>) {
        self.published.lock().unwrap().insert(url.to_owned(), document.into());
    }

    fn withdraw(&self) {
        self.published.lock().unwrap().clear();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl FetchDocument for Documents {
    fn fetch(&self, url: &str, _: &str) -> Fetched {
        self.asked.lock().unwrap().push(url.to_owned());
        let document = self.published.lock().unwrap().get(url).cloned();
        Box::pin(async move { document.ok_or_else(|| "404".to_owned()) })
    }
}

fn documents() -> Arc<Documents> {
    Arc::default()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(future)
}

/// A file of `tests/`.
fn file(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)).unwrap()
}

/// A key made for these tests alone.
fn rsa() -> RsaKeyPair {
    let der = PrivatePkcs8KeyDer::from_pem_slice(&file("keys/rsa.pem")).unwrap();
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap()
}

fn signed_by_rsa(text: &[u8]) -> Vec<u8> {
    let key = rsa();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
    signature
}
