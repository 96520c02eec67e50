use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::super::certificate::{Certificate, CertificateVersion};
use super::super::{Sns, Unproven};
use super::{documents, file, run, signed_by_rsa};
use crate::event::sources::envelope::SnsEnvelope;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:t";
const CERTIFICATE: &str = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem";
const CONFIRM: &str = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:123456789012:t&Token=2336";
/// By `openssl dgst -sha1 -sign` over [`notification`].
const SHA1: &str = "MjwdEGIBvbeDi8sz8FhIqYtUtErwv2WAUgISBTVuLGUJB63kErr6IrPrXMYoIl0ardHox19qh0BmFzn7x2hZwP50LPXp63Md5zD/9CR8JfmD2ZQMAJ0zO2eknDSoInrUsRrtbUS4vjUwmaKuO+A5Gf/ru1BZtjbMg99sFpqhxthzMhVTdE/kssUQH/Rv8C85zZdn9F07Ga03jTPNjXXZTu0OY+zkNV43awAgs/+AcLhTLPlwiopOGCEmInl5YYyOzjPZMsF5nlX1wswhc0NzzS+mYyMcmX9dty4gCiPwc0gjCxIS3js1EcgrpAulKjn1dbThF+UDcQuLvQ0plGhONQ==";

fn notification() -> Value {
    json!({
        "Type": "Notification", "MessageId": "m-1", "TopicArn": TOPIC, "Subject": "an object", "Message": "hello",
        "Timestamp": "2026-11-28T22:10:51.483Z", "SignatureVersion": "2", "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    })
}

fn subscription() -> Value {
    json!({
        "Type": "SubscriptionConfirmation", "MessageId": "m-1", "TopicArn": TOPIC, "Message": "You have chosen…", "Token": "2336",
        "Timestamp": "2026-11-28T22:10:51.483Z", "SignatureVersion": "2", "SigningCertURL": CERTIFICATE, "SubscribeURL": CONFIRM,
    })
}

fn signed(mut message: Value) -> Value {
    let bytes = message.to_string();
    let text = SnsEnvelope::read(bytes.as_bytes()).unwrap().text_to_sign().unwrap();
    message["Signature"] = BASE64.encode(signed_by_rsa(text.as_bytes())).into();
    message
}

async fn verified(sns: &Sns, message: &Value) -> Result<(), Unproven> {
    let bytes = message.to_string();
    sns.verify(&SnsEnvelope::read(bytes.as_bytes()).unwrap(), &[TOPIC.to_owned()]).await
}

async fn confirmed(sns: &Sns, message: &Value) -> Result<(), Unproven> {
    let bytes = message.to_string();
    sns.confirm(&SnsEnvelope::read(bytes.as_bytes()).unwrap(), &[TOPIC.to_owned()]).await
}

#[test]
fn both_versions_of_signatures_are_good() {
    run(async {
        let documents = documents();
        documents.publish(CERTIFICATE, file("keys/sns.pem"));
        let sns = Sns::new(documents.clone());
        let mut by_openssl = notification();
        by_openssl["SignatureVersion"] = "1".into();
        by_openssl["Signature"] = SHA1.into();
        for message in [signed(notification()), by_openssl, signed(subscription())] {
            assert_eq!(verified(&sns, &message).await, Ok(()), "{message}");
        }
        assert_eq!(documents.asked(), [CERTIFICATE], "the certificate is kept");
    });
}

#[test]
fn a_real_message_of_moto_is_good_under_its_certificate() {
    let request = file("payloads/moto-sns-signed.http");
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let envelope = SnsEnvelope::read(&request[end + 4..]).unwrap();
    let certificate = Certificate::of_pem(&file("payloads/moto-sns-signed.pem")).unwrap();
    let (text, signature) = (envelope.text_to_sign().unwrap(), BASE64.decode(envelope.signature().unwrap()).unwrap());
    assert!(certificate.has_signed(
        CertificateVersion::named(envelope.version().unwrap()).unwrap(),
        text.as_bytes(),
        &signature
    ));
    assert!(!certificate.has_signed(CertificateVersion::Two, &text.as_bytes()[1..], &signature));
    assert!(!certificate.is_valid(0) && !certificate.is_valid(i64::MAX));
}

#[test]
fn a_message_that_was_changed_is_refused() {
    run(async {
        let documents = documents();
        documents.publish(CERTIFICATE, file("keys/sns.pem"));
        let sns = Sns::new(documents);
        for (name, value) in [
            ("Message", "hellp"),
            ("MessageId", "m-2"),
            ("Subject", "another"),
            ("Timestamp", "2026-11-28T22:10:51.484Z"),
            ("Signature", "AAAA"),
            ("Signature", "no base64"),
            ("SignatureVersion", "1"),
            ("SignatureVersion", "3"),
        ] {
            let mut message = signed(notification());
            message[name] = value.into();
            assert!(matches!(verified(&sns, &message).await, Err(Unproven::Refused(_))), "{name}");
        }
        let mut message = signed(notification());
        message.as_object_mut().unwrap().remove("Subject");
        assert!(verified(&sns, &message).await.is_err());
        let mut message = signed(subscription());
        message["SubscribeURL"] = CONFIRM.replace("2336", "2337").into();
        assert!(verified(&sns, &message).await.is_err());
    });
}

#[test]
fn nothing_is_fetched_from_anywhere_else_than_sns_in_the_topic_s_region() {
    run(async {
        let documents = documents();
        let sns = Sns::new(documents.clone());
        for url in [
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
            "https://sns.eu-west-2.amazonaws.com/SimpleNotificationService-0.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
            "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-0.pem",
            "https://u@sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
            "https://evil.example/?sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
            "https://sns.eu-west-1.amazonaws.com/bucket/SimpleNotificationService-0.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem?x",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-/../0.pem",
            "https://sns.eu-west-1.amazonaws.com/",
            "https://127.0.0.1/SimpleNotificationService-0.pem",
            "file:///SimpleNotificationService-0.pem",
            "",
        ] {
            let mut message = signed(notification());
            message["SigningCertURL"] = url.into();
            assert!(matches!(verified(&sns, &message).await, Err(Unproven::Refused(_))), "{url}");
        }
        for url in [
            CONFIRM.replace("https", "http"),
            CONFIRM.replace("eu-west-1.a", "eu-west-2.a"),
            CONFIRM.replace("amazonaws.com/", "amazonaws.com:8443/"),
            CONFIRM.replace("ConfirmSubscription", "Unsubscribe"),
            CONFIRM.replace("/?", "/x?"),
            CONFIRM.replace(":t&", ":other&"),
            format!("{CONFIRM}&Action=DeleteTopic"),
            "http://169.254.169.254/latest/meta-data".to_owned(),
        ] {
            let mut message = subscription();
            message["SubscribeURL"] = url.as_str().into();
            assert!(matches!(confirmed(&sns, &message).await, Err(Unproven::Refused(_))), "{url}");
        }
        for topic in ["arn:aws:sns:eu-west-1:123456789012:other", "", "arn:aws:sns:x.evil/:1:t"] {
            let mut message = signed(notification());
            message["TopicArn"] = topic.into();
            assert!(matches!(verified(&sns, &message).await, Err(Unproven::Refused(_))), "{topic}");
        }
        assert_eq!(documents.asked(), Vec::<String>::new());
    });
}

#[test]
fn a_subscription_is_confirmed_by_its_url_and_not_without_end() {
    run(async {
        let documents = documents();
        let sns = Sns::new(documents.clone());
        assert!(matches!(confirmed(&sns, &subscription()).await, Err(Unproven::Unavailable(_))), "SNS does not answer");
        documents.publish(CONFIRM, "<ConfirmSubscriptionResponse/>");
        assert_eq!(confirmed(&sns, &subscription()).await, Ok(()));
        assert_eq!(documents.asked(), [CONFIRM, CONFIRM]);
        let mut others = 0;
        for _ in 0..100 {
            others += usize::from(confirmed(&sns, &subscription()).await.is_ok());
        }
        assert_eq!((others, documents.asked().len()), (18, 18));
    });
}

#[test]
fn certificates_are_not_fetched_without_end_and_a_missing_one_may_come() {
    run(async {
        let documents = documents();
        let sns = Sns::new(documents.clone());
        for number in 0..100 {
            let mut message = signed(notification());
            message["SigningCertURL"] = CERTIFICATE.replace("0123", &format!("{number:04}")).into();
            assert!(matches!(verified(&sns, &message).await, Err(Unproven::Unavailable(_))));
        }
        assert_eq!(documents.asked().len(), 20);
    });
}
