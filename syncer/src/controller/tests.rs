//! What is told of a pass that panicked.

use std::{
    fmt::{Debug, Write as _},
    sync::Mutex,
};

use kube::runtime::{reflector, watcher};
use runtime::clock::ManualClock;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::*;
use crate::{
    binding::Bindings,
    context::Secrets,
    indexed,
    links::LinkKeeper,
    memory::Memory,
    samples::{
        account,
        api_server::{api_server, refused},
        context, now,
    },
};

/// All that is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

/// The fields of a line.
struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Line(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn panicking() -> Option<Duration> {
    panic!("cannot parse eyJhdXRo")
}

#[tokio::test(start_paused = true)]
async fn l1_pass_that_panics_is_told_of_without_what_the_panic_says() {
    let (client, _calls) = api_server(|_call| refused(404, "there is none"));
    let bindings = Bindings::empty().0;
    let memory = Arc::new(Memory::new(bindings.clone()));
    let links = LinkKeeper::new(indexed::store(()).0, bindings, Arc::clone(&memory));
    let secrets = Secrets::Watched(reflector::store().0);
    let clock = ManualClock::at(now().into());
    let context = Arc::new(context(client, &clock, secrets, links, memory));

    let web = account("web");
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Apply(web.clone()));
    let (mut wakes_tx, wakes) = mpsc::channel(1);
    wakes_tx.try_send(ObjectRef::from_obj(&web)).unwrap();
    let log = Log::default();
    let told = tracing::subscriber::set_default(log.clone());
    let driven = drive(&context, store, wakes, |_account, _context| {
        tasks::spawn_detached(async { panicking() })
    });
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(wakes_tx);
    };
    tokio::join!(driven, end);
    drop(told);
    let log = log.0.lock().unwrap();
    assert!(
        log.contains("a pass panicked") && log.contains("\"web\""),
        "{log}"
    );
    assert!(!log.contains("eyJ"), "{log}");
}
