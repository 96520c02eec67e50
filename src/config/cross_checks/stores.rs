//! The settings of a store among themselves.

use super::super::effective::Effective;
use super::super::fault::SettingFault;
use super::super::named::store_settings;
use super::{alone, both, described};

/// What a kind of store has beside `kind`, `endpoint` and `anonymous`. Each secret may come by its setting or by a file.
const OF_KIND: [(&str, &[&str]); 4] = [
    ("s3", &["region", "path_style", "access_key_id", "secret_access_key", "session_token"]),
    ("azure", &["account", "account_key", "sas_token"]),
    ("gcs", &["service_account_file"]),
    ("http", &["header"]),
];
/// What requests are signed with, and what that needs beside it.
const CREDENTIALS: [(&str, Option<&str>); 7] = [
    ("access_key_id", Some("secret_access_key")),
    ("secret_access_key", Some("access_key_id")),
    ("session_token", Some("access_key_id")),
    ("account_key", None),
    ("sas_token", None),
    ("service_account_file", None),
    ("header", None),
];

/// The settings of one store.
struct Store<'a> {
    settings: &'a Effective,
    name: &'a str,
}

pub fn check(settings: &Effective, name: &str, faults: &mut Vec<SettingFault>) {
    let store = Store { settings, name };
    let (kind, endpoint) = (store.path("kind"), store.path("endpoint"));
    let Some(own) = settings.text(kind) else {
        if !settings.is_bad(kind) {
            faults.push(SettingFault::Usage(format!("{kind} is unset; allowed: s3, azure, gcs or http")));
        }
        return;
    };
    let before = faults.len();
    let of_kind = OF_KIND.iter().find(|(kind, _)| *kind == own).map_or(&[][..], |(_, leaves)| leaves);
    for setting in store_settings(name) {
        let leaf = setting.leaf();
        let is_known = matches!(leaf, "kind" | "endpoint" | "anonymous") || of_kind.contains(&without_file(leaf));
        if !is_known && !of_kind.contains(&leaf) && settings.get(setting.path).is_some() {
            faults.push(store.pair(kind, setting.path, "this kind of store does not have the setting"));
        }
    }
    if faults.len() == before {
        store.check_credentials(faults);
    }
    match own {
        "http" => faults.extend(alone(settings, kind, endpoint)),
        "s3" if settings.get(endpoint).is_none() => faults.extend(alone(settings, kind, store.path("region"))),
        "azure" if settings.get(endpoint).is_none() => faults.extend(alone(settings, kind, store.path("account"))),
        _ => {}
    }
}

impl Store<'_> {
    fn check_credentials(&self, faults: &mut Vec<SettingFault>) {
        let Store { settings, .. } = self;
        for (leaf, partner) in CREDENTIALS {
            faults.extend(both(settings, self.path(leaf), self.path(&format!("{leaf}_file"))));
            let Some(given) = self.given(leaf) else { continue };
            if let Some(partner) = partner.filter(|partner| self.given(partner).is_none()) {
                faults.extend(alone(settings, given, self.path(partner)));
            }
            if settings.is_on(self.path("anonymous")) {
                faults.push(self.pair(self.path("anonymous"), given, "an anonymous request has no credential"));
            }
        }
        if let (Some(key), Some(token)) = (self.given("account_key"), self.given("sas_token")) {
            faults.push(self.pair(key, token, "only one of the two may be given"));
        }
        if let Some(key) = self.given("account_key") {
            faults.extend(alone(settings, key, self.path("account")));
        }
    }

    fn path(&self, leaf: &str) -> &'static str {
        store_settings(self.name).iter().find(|own| own.leaf() == leaf).map_or("", |own| own.path)
    }

    /// The path by which a secret is given, its own or that of a file; a bad one counts.
    fn given(&self, leaf: &str) -> Option<&'static str> {
        let is_given = |path: &&str| self.settings.get(path).is_some() || self.settings.is_bad(path);
        [self.path(leaf), self.path(&format!("{leaf}_file"))].into_iter().find(is_given)
    }

    fn pair(&self, first: &str, second: &str, reason: &str) -> SettingFault {
        SettingFault::Pair {
            first: described(self.settings, first),
            second: described(self.settings, second),
            reason: reason.to_owned(),
        }
    }
}

fn without_file(leaf: &str) -> &str {
    leaf.strip_suffix("_file").unwrap_or(leaf)
}
