//! Variables of the environment that look like settings of this service, and have no effect.

use std::ffi::OsString;

use strsim::levenshtein;

use super::named::{nearest_variable, of_variable};
use super::table::{SETTINGS, Setting};

/// Shorter names are near to too many others.
const MIN_MISSPELT: usize = 8;
/// Warnings of this kind, at most.
const MAX_MISSPELT: usize = 10;

/// The variables by which other programs know a proxy, in capitals or not.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// A warning of each variable that is no setting's and differs from one by a letter or two.
pub fn misspelt(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    let near = |name: &str| {
        let is_ours = variables.iter().any(|own| own == name) || of_variable(name).is_some();
        let is_near = |own: &&String| own.len().abs_diff(name.len()) <= 2 && levenshtein(own, name) <= 2;
        let is_asked = !is_ours && name.len() >= MIN_MISSPELT;
        is_asked.then(|| variables.iter().find(is_near).cloned().or_else(|| nearest_variable(name))).flatten()
    };
    let names = names.filter_map(|name| name.into_string().ok());
    let warning = |name: String| {
        near(&name).map(|near| format!("environment {name} is not a setting and is ignored; did you mean {near}?"))
    };
    names.filter_map(warning).take(MAX_MISSPELT).collect()
}

/// One warning of all variables that name a proxy, which is not used unasked. Their values may hold a password.
pub fn proxies(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let is_given = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
    let given: Vec<&str> = PROXIES.into_iter().filter(is_given).collect();
    (!given.is_empty()).then(|| {
        let given = given.join(", ");
        format!("environment {given}: ignored, blobs are fetched without a proxy. Set fetch.proxy to use one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_the_environment_are_warned_of_once_by_name() {
        let environment = |given: &'static [(&str, &str)]| {
            proxies(move |name| given.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).into()))
        };
        for name in PROXIES {
            let warning = proxies(|own| (own == name).then(|| "http://u:hunter2@p:1".into())).expect("a warning");
            assert!(warning.starts_with(&format!("environment {name}: ignored")), "{warning}");
            assert!(!warning.contains("hunter2"), "{warning}");
        }
        let both = environment(&[("http_proxy", "http://p:1"), ("HTTPS_PROXY", "http://p:1")]).expect("a warning");
        assert!(both.starts_with("environment HTTPS_PROXY, http_proxy: "), "{both}");
        assert_eq!(environment(&[("HTTPS_PROXY", ""), ("NO_PROXY", "x")]), None);
    }
}
