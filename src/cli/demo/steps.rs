//! The sample events and the expected answers, in the order in which they are sent: later steps read what earlier
//! ones wrote.

/// Stands for the blob server's address.
pub(super) const BLOBS: &str = "{blobs}";

/// One request.
pub(super) struct DemoStep {
    pub title: &'static str,
    /// JSON; more than one line is NDJSON.
    pub body: &'static str,
    pub status: u16,
    /// The expected answer, in the form that `difference` reads.
    pub answer: &'static str,
}

impl DemoStep {
    pub fn content_type(&self) -> &'static str {
        if self.body.lines().count() > 1 { "application/x-ndjson" } else { "application/json" }
    }
}

pub(super) const STEPS: &[DemoStep] = &[
    DemoStep {
        title: "SET: a string is stored as its text; an id comes back",
        body: r#"{"key":"SET","id":"e-1","value":{"data":{"key":"greeting","value":"hello"}}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","id":"e-1","results":[{"key":"greeting","status":"stored","bytes":5,"ttl":null,"source":"inline"}]}"#,
    },
    DemoStep {
        title: "SET: an object is stored as the JSON that was sent, here for an hour",
        body: r#"{"key":"SET","value":{"data":{"key":"user:42","value":{"name":"Ada"}},"ttl":3600}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","results":[{"key":"user:42","status":"stored","bytes":14,"ttl":3600,"source":"inline"}]}"#,
    },
    DemoStep {
        title: "SET: several entries in one event; numbers keep every digit; an entry may have its own ttl",
        body: r#"{"key":"SET","value":{"data":[{"key":"price","value":1.0},{"key":"big","value":123456789012345678901234567890,"ttl":"60"}]}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","results":[{"key":"price","status":"stored","bytes":3,"ttl":null,"source":"inline"},{"key":"big","status":"stored","bytes":30,"ttl":60,"source":"inline"}]}"#,
    },
    DemoStep {
        title: "GET: a key that exists and one that does not",
        body: r#"{"key":"GET","value":{"data":["greeting","user:42","price","big","nobody"]}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"GET","results":[{"key":"greeting","status":"hit","value":"hello"},{"key":"user:42","status":"hit","value":"{\"name\":\"Ada\"}"},{"key":"price","status":"hit","value":"1.0"},{"key":"big","status":"hit","value":"123456789012345678901234567890"},{"key":"nobody","status":"miss"}]}"#,
    },
    DemoStep {
        title: "SET: bytes are sent as base64",
        body: r#"{"key":"SET","value":{"data":{"key":"raw","value":"AAH/","encoding":"base64"}}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","results":[{"key":"raw","status":"stored","bytes":3,"ttl":null,"source":"inline"}]}"#,
    },
    DemoStep {
        title: "GET: a value that is not UTF-8 is returned as base64",
        body: r#"{"key":"GET","value":{"data":"raw"}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"GET","results":[{"key":"raw","status":"hit","value":"AAH/","encoding":"base64"}]}"#,
    },
    DemoStep {
        title: "SET: a blob under a key; only the blob's server sees the query",
        body: r#"{"key":"SET","value":{"data":{"key":"profile:42","url":"{blobs}/users/42.json?signature=abc"},"ttl":600}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","results":[{"key":"profile:42","status":"stored","bytes":35,"ttl":600,"source":"blob"}]}"#,
    },
    DemoStep {
        title: "SET: a blob without a key is stored under its path",
        body: r#"{"key":"SET","value":{"data":"{blobs}/logos/dot.png"}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","results":[{"key":"logos/dot.png","status":"stored","bytes":67,"ttl":null,"source":"blob"}]}"#,
    },
    DemoStep {
        title: "GET: both blobs, byte for byte",
        body: r#"{"key":"GET","value":{"data":{"keys":["profile:42","logos/dot.png"]}}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"GET","results":[{"key":"profile:42","status":"hit","value":"{\"id\":42,\"name\":\"Ada\",\"since\":1843}"},{"key":"logos/dot.png","status":"hit","value":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg==","encoding":"base64"}]}"#,
    },
    DemoStep {
        title: "a batch: a gzipped blob is stored unpacked, and a later event of the batch sees it",
        body: r#"[{"key":"SET","value":{"data":{"url":"{blobs}/catalog.json"}}},{"key":"GET","value":{"data":"catalog.json"}}]"#,
        status: 200,
        answer: r#"{"status":"ok","counts":{"ok":2,"rejected":0,"unavailable":0},"events":[{"index":0,"status":"ok","event":"SET","results":[{"key":"catalog.json","status":"stored","bytes":83,"ttl":null,"source":"blob"}]},{"index":1,"status":"ok","event":"GET","results":[{"key":"catalog.json","status":"hit","value":"{\"items\":[{\"sku\":\"A-1\",\"stock\":0},{\"sku\":\"A-2\",\"stock\":0},{\"sku\":\"A-3\",\"stock\":0}]}"}]}]}"#,
    },
    DemoStep {
        title: "order: the second SET and the GET wait for the slow blob; another key does not",
        body: r#"[{"key":"SET","value":{"data":{"key":"report","url":"{blobs}/slow/report.json"}}},{"key":"GET","value":{"data":["report","greeting"]}},{"key":"SET","value":{"data":{"key":"report","value":"newer"}}},{"key":"GET","value":{"data":"report"}}]"#,
        status: 200,
        answer: r#"{"status":"ok","counts":{"ok":4,"rejected":0,"unavailable":0},"events":[{"index":0,"status":"ok","event":"SET","results":[{"key":"report","status":"stored","bytes":33,"ttl":null,"source":"blob"}]},{"index":1,"status":"ok","event":"GET","results":[{"key":"report","status":"hit","value":"{\"quarter\":\"2026-Q3\",\"total\":1.0}"},{"key":"greeting","status":"hit","value":"hello"}]},{"index":2,"status":"ok","event":"SET","results":[{"key":"report","status":"stored","bytes":5,"ttl":null,"source":"inline"}]},{"index":3,"status":"ok","event":"GET","results":[{"key":"report","status":"hit","value":"newer"}]}]}"#,
    },
    DemoStep {
        title: "data that was encoded twice is decoded",
        body: r#"{"key":"SET","value":{"data":"[{\"key\":\"note\",\"value\":\"twice\"}]"}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"SET","results":[{"key":"note","status":"stored","bytes":5,"ttl":null,"source":"inline"}]}"#,
    },
    DemoStep {
        title: "DELETE: a key that exists and one that does not",
        body: r#"{"key":"DELETE","value":{"data":["note","nobody"]}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"DELETE","results":[{"key":"note","status":"deleted"},{"key":"nobody","status":"absent"}]}"#,
    },
    DemoStep {
        title: "NDJSON: an invalid event and a line that is not JSON do not affect the other lines",
        body: r#"{"key":"SET","value":{"data":[{"key":"sess:1","value":"a"},{"key":"sess:2","value":"b"}]}}
{"key":"SET","id":"bad","value":{"data":{"key":"sess:9","value":"z"},"ttl":"soon"}}
{"key":"SET","value":
{"key":"SET","value":{"data":[{"key":"sess:3","value":"c"},{"key":"cart:1","value":"d"}]}}"#,
        status: 207,
        answer: r#"{"status":"rejected","counts":{"ok":2,"rejected":2,"unavailable":0},"events":[{"index":0,"status":"ok","event":"SET","results":[{"key":"sess:1","status":"stored","bytes":1,"ttl":null,"source":"inline"},{"key":"sess:2","status":"stored","bytes":1,"ttl":null,"source":"inline"}]},{"index":1,"id":"bad","status":"rejected","problem":{"type":"urn:redis-cache-sync:invalid-event","errors":[{"pointer":"/value/ttl","detail":"*"}],"…":"*"}},{"index":2,"status":"rejected","problem":{"type":"urn:redis-cache-sync:malformed-json","…":"*"}},{"index":3,"status":"ok","event":"SET","results":[{"key":"sess:3","status":"stored","bytes":1,"ttl":null,"source":"inline"},{"key":"cart:1","status":"stored","bytes":1,"ttl":null,"source":"inline"}]}]}"#,
    },
    DemoStep {
        title: "DELETE_PATTERN: a dry run counts and shows",
        body: r#"{"key":"DELETE_PATTERN","value":{"data":{"pattern":"sess:*","dry_run":true}}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"DELETE_PATTERN","results":[{"pattern":"sess:*","status":"preview","matched":3,"sample":["sess:1","sess:2","sess:3"]}]}"#,
    },
    DemoStep {
        title: "DELETE_PATTERN: the real one",
        body: r#"{"key":"DELETE_PATTERN","value":{"data":"sess:[0-9]"}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"DELETE_PATTERN","results":[{"pattern":"sess:[0-9]","status":"deleted","matched":3,"deleted":3}]}"#,
    },
    DemoStep {
        title: "GET: the sessions are gone, the cart is not",
        body: r#"{"key":"GET","value":{"data":["sess:1","sess:2","sess:3","cart:1"]}}"#,
        status: 200,
        answer: r#"{"status":"ok","event":"GET","results":[{"key":"sess:1","status":"miss"},{"key":"sess:2","status":"miss"},{"key":"sess:3","status":"miss"},{"key":"cart:1","status":"hit","value":"d"}]}"#,
    },
    DemoStep {
        title: "an invalid event: every fault with its place; nothing of the event is done",
        body: r#"{"key":"SET","value":{"data":[{"key":"good","value":1},{"key":"a","value":null},{"key":"","value":1},{"key":"c","value":1,"tll":5}],"ttl":0}}"#,
        status: 422,
        answer: r#"{"type":"urn:redis-cache-sync:invalid-event","title":"*","status":422,"detail":"*","errors":[{"pointer":"/value/data/1/value","detail":"*"},{"pointer":"/value/data/2/key","detail":"*"},{"pointer":"/value/data/3/tll","detail":"*"},{"pointer":"/value/ttl","detail":"*"}]}"#,
    },
    DemoStep {
        title: "a pattern that would match everything is refused",
        body: r#"{"key":"DELETE_PATTERN","value":{"data":"*"}}"#,
        status: 422,
        answer: r#"{"type":"urn:redis-cache-sync:invalid-event","title":"*","status":422,"detail":"*","errors":[{"pointer":"/value/data","detail":"*"}]}"#,
    },
    DemoStep {
        title: "a forbidden URL: the metadata service of a cloud",
        body: r#"{"key":"SET","value":{"data":{"key":"loot","url":"http://169.254.169.254/latest/meta-data/"}}}"#,
        status: 422,
        answer: r#"{"status":"rejected","event":"SET","results":[{"key":"loot","status":"rejected","problem":{"type":"urn:redis-cache-sync:blob-forbidden","…":"*"}}]}"#,
    },
    DemoStep {
        title: "a blob that does not exist: its entry is rejected, the other one stored",
        body: r#"{"key":"SET","value":{"data":["{blobs}/users/42.json","{blobs}/gone.json"]}}"#,
        status: 422,
        answer: r#"{"status":"rejected","event":"SET","results":[{"key":"users/42.json","status":"stored","bytes":35,"ttl":null,"source":"blob"},{"key":"gone.json","status":"rejected","problem":{"type":"urn:redis-cache-sync:blob-not-found","…":"*"}}]}"#,
    },
    DemoStep {
        title: "a body that is not JSON",
        body: r#"{"key":"SET","value":{"data":{"key":"k","value":"#,
        status: 400,
        answer: r#"{"type":"urn:redis-cache-sync:malformed-json","title":"*","status":400,"detail":"*"}"#,
    },
];

/// Where notifications go: a source that stores what they say.
pub(super) const SOURCE: &str = "/sources/photos";

/// Notifications of storage, in the producers' own words.
pub(super) const NOTIFICATIONS: &[DemoStep] = &[
    DemoStep {
        title: "a notification of S3: its facts about the object are stored",
        body: r#"{"Records":[{"eventName":"ObjectCreated:Put","eventTime":"2026-11-28T22:10:23.403Z","s3":{"bucket":{"name":"photos"},"object":{"key":"2026/a+cat.jpg","size":5,"eTag":"e1","sequencer":"0055AED6DCD90281E6"}}}]}"#,
        status: 200,
        answer: r#"{"status":"ok","counts":{"ok":1,"rejected":0,"unavailable":0},"events":[{"index":0,"status":"ok","event":"SET","results":[{"key":"2026/a cat.jpg","status":"stored","bytes":100,"ttl":null,"source":"inline"}]}]}"#,
    },
    DemoStep {
        title: "a late notification: its sequencer is lower than the last one's",
        body: r#"{"Records":[{"eventName":"ObjectRemoved:Delete","eventTime":"2026-11-28T22:10:21.000Z","s3":{"bucket":{"name":"photos"},"object":{"key":"2026/a+cat.jpg","sequencer":"0055AED6DCD90281E4"}}}]}"#,
        status: 200,
        answer: r#"{"status":"ok","counts":{"ok":1,"rejected":0,"unavailable":0},"events":[{"index":0,"status":"ok","event":"DELETE","results":[{"key":"2026/a cat.jpg","status":"superseded"}]}]}"#,
    },
    DemoStep {
        title: "a notification of Event Grid",
        body: r#"[{"id":"1","eventType":"Microsoft.Storage.BlobDeleted","subject":"/blobServices/default/containers/photos/blobs/2026/a dog.jpg","eventTime":"2026-11-28T22:44:51Z","data":{"url":"https://account.blob.core.windows.net/photos/2026/a dog.jpg","sequencer":"00000000000004420000000000028963"},"dataVersion":""}]"#,
        status: 200,
        answer: r#"{"status":"ok","counts":{"ok":1,"rejected":0,"unavailable":0},"events":[{"index":0,"status":"ok","event":"DELETE","id":"1","results":[{"key":"2026/a dog.jpg","status":"absent"}]}]}"#,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expected_answer_is_json_and_agrees_with_its_status() {
        for step in STEPS.iter().chain(NOTIFICATIONS) {
            let answer: serde_json::Value = serde_json::from_str(step.answer).unwrap();
            let is_ok = answer["status"] == "ok";
            assert_eq!(is_ok, step.status == 200, "{}", step.title);
        }
    }

    #[test]
    fn steps_show_each_type_of_event() {
        for event in crate::event::EventType::ALL {
            let member = format!(r#""key":"{}""#, event.as_str());
            assert!(STEPS.iter().any(|step| step.status == 200 && step.body.contains(&member)), "{member}");
        }
    }
}
