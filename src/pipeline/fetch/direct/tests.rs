use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::*;
use crate::cache::{Fingerprint, Remembered, Seen};
use crate::event::expected::Expected;
use crate::event::version::Version;
use crate::event::wire::{Answered, EventResult};
use crate::event::{BlobUrl, EntityTag, EventType, FetchTarget, Few};
use crate::pipeline::fetch::scheduler::FetchScheduler;
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::key_order::{KeyOrder, KeyUse};
use crate::pipeline::work::reply::{PendingReply, reply};

const KEY: &str = "k";

/// What the router is told, in a word.
type Told = Receiver<&'static str>;

/// Direct fetches whose fetchers and writers have all gone, as at the end of the process.
fn without_writers() -> (Arc<DirectFetch>, Told) {
    let direct = DirectFetch::new(Deps {
        attempt: Duration::from_secs(1),
        fetch: Duration::from_secs(1),
        max_answer_bytes: 100,
        stores: Stores::default(),
        scheduler: SharedScheduler::new(FetchScheduler::new(1, 1, 1)),
        fetchers: Pool::new(),
        writers: Pool::new(),
    });
    let (told, news): (Sender<&'static str>, Told) = channel();
    let of_questions = told.clone();
    let question = move |ended: QuestionEnded| {
        let _ = of_questions.send(if matches!(ended.answer, CacheAnswer::Lost) { "lost" } else { "answered" });
    };
    let fetch = move |_: FetchEnded| {
        let _ = told.send("fetched");
    };
    direct.set_router(Notifier::new(fetch), Notifier::new(question));
    (direct, news)
}

fn url() -> FetchTarget {
    FetchTarget::Url(BlobUrl::parse("http://h/blob").expect("a url"))
}

/// A blob with a version is under way: its number is 1.
fn begin(direct: &DirectFetch) -> PendingReply {
    let answered = Answered { has_version: true, ..Answered::begun(EventType::Set, Few::from_iter([KEY.into()])) };
    let (reply, pending) = reply(Admission::new(100, 100_000, 10).permit(), 100, None);
    let slot = reply.begin(false, vec![EventResult::Answered(answered)], Instant::now()).next().expect("a slot");
    let key = CacheKey::new_unchecked(KEY);
    let (ticket, _) = KeyOrder::new().take(&key, KeyUse::WriteLater, |_| 0);
    let operation = Operation {
        key,
        action: AwaitedBlob { target: url(), ttl: None, expected: None },
        version: Version::from_number(5),
        slot,
        ticket,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let mut ready = Vec::new();
    assert!(direct.start(operation, WorkerThread::new(0, 1), &mut ready).is_ok() && direct.count() == 1);
    // Whose end is what the test is about.
    ready.into_iter().flatten().for_each(std::mem::forget);
    pending
}

fn request() -> FetchRequest {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut request = FetchRequest::new(0, CacheKey::new_unchecked(KEY), url(), deadline);
    let etag = EntityTag::parse("\"t\"").expect("a tag");
    let resource = Stores::default().resource_of(&request.target).expect("a resource");
    request.known = Some(Box::new(Remembered { etag, resource, print: Fingerprint::of(b"v") }));
    request.thread = Some(WorkerThread::new(0, 1));
    request
}

/// Does it elsewhere, and waits for what the router is told of it.
fn told(news: &Told, work: impl FnOnce() + Send + 'static) -> Option<&'static str> {
    thread::spawn(work);
    news.recv_timeout(Duration::from_secs(10)).ok()
}

#[test]
fn a_question_that_no_writer_takes_any_more_is_lost_and_holds_nobody_up() {
    let (direct, news) = without_writers();
    let _pending = begin(&direct);
    let ending = direct.clone();
    let unmodified =
        FetchEnded { epoch: 0, direct: Some(1), fetcher: 0, request: request(), result: FetchResult::NotModified };
    assert_eq!(told(&news, move || ending.ended(unmodified)), Some("lost"));
    assert_eq!(direct.count(), 1, "the router takes it over");
}

#[test]
fn so_is_one_that_follows_an_answer_of_the_cache() {
    let (direct, news) = without_writers();
    let _pending = begin(&direct);
    let ending = direct.clone();
    let mut request = request();
    let tag = request.known.as_ref().map(|known| known.etag.clone());
    request.expected = Some(Arc::new(Expected { etag: tag, ..Expected::default() }));
    let seen =
        Seen { standing: Standing::Open, remembered: request.known.take().map(|known| *known), ..Seen::default() };
    let answer = CacheAnswer::Seen(Box::new(seen));
    let open = QuestionEnded { epoch: 0, direct: Some(1), request, answer };
    assert_eq!(told(&news, move || ending.answered(open)), Some("lost"));
}
