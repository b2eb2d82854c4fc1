//! An etcd that is away, and connections that are lost.
//!
//! *Invariants.* Every call ends by its deadline. What is stored is stored whole, and stays.
//!
//! *Does not* wait for minutes: that an etcd is away longer than a deadline is all that a call can see.

use std::time::{Duration, Instant};

use recoverylog::hint_store::{Etcd, EtcdOptions, HintStore};
use recoverylog::{Deadline, ErrorKind};

use crate::proxy::Proxy;
use crate::{KEY, after_millis, hints_at, log, points, quick, set, soon, with_etcd};

#[test]
fn a_call_ends_by_its_deadline_while_etcd_is_away_and_works_once_it_is_back() {
    with_etcd(|server| {
        let hints = hints_at(&server.address());
        hints.store(&set(1, 1), soon()).unwrap();
        let fails = || {
            for call in [
                (|hints| hints.store(&set(2, 1), after_millis(700))) as fn(&dyn HintStore) -> _,
                |hints| hints.candidates(&log(), after_millis(700)).map(drop),
                |hints| hints.store(&set(2, 1), Deadline::passed()),
            ] {
                let begun = Instant::now();
                let error = call(&hints).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.to_string().contains(KEY), "{error}");
                assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            }
        };
        server.kill();
        fails();
        server.go();
        hints.store(&set(3, 1), soon()).unwrap();
        // It holds its connections, and does not answer.
        server.stop(true);
        fails();
        server.stop(false);
        hints.store(&set(4, 1), soon()).unwrap();
        assert_eq!(points(&hints), [4, 1]);
    });
}

#[test]
fn an_etcd_that_comes_back_within_the_deadline_is_not_noticed() {
    with_etcd(|server| {
        let hints = hints_at(&server.address());
        hints.store(&set(1, 1), soon()).unwrap();
        server.kill();
        let storing = std::thread::spawn({
            let hints = hints.clone();
            move || hints.store(&set(2, 2), soon())
        });
        std::thread::sleep(Duration::from_secs(2));
        server.go();
        storing.join().unwrap().unwrap();
        assert_eq!(points(&hints), [2, 1]);
    });
}

#[test]
fn a_set_whose_answer_is_lost_is_stored_once_wherever_the_connection_breaks() {
    with_etcd(|server| {
        let proxy = Proxy::to(server.port());
        let etcd = Etcd::new([proxy.address()], quick()).unwrap();
        let (mut expected, mut cuts) = (Vec::new(), 0);
        let hints = etcd.hints(KEY).unwrap().backups(50);
        // An answer has some 30 to 100 bytes, and there are a few of them.
        for (bytes, author) in (1..600).step_by(13).zip(1..) {
            proxy.cut_after(bytes);
            hints.store(&set(i64::from(author), author), soon()).unwrap();
            expected.insert(0, i64::from(author));
            cuts += 1;
            let found = points(&hints_at(&server.address()).backups(50));
            assert_eq!(found, expected, "cut after {bytes} bytes");
        }
        assert!(cuts > 40);
    });
}

#[test]
fn answers_that_do_not_come_are_not_waited_for_longer_than_is_allowed() {
    with_etcd(|server| {
        let proxy = Proxy::to(server.port());
        let hints = hints_at(&proxy.address());
        hints.store(&set(1, 1), soon()).unwrap();
        proxy.mute(true);
        let error = hints.store(&set(2, 1), after_millis(1500)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        proxy.mute(false);
        // Nobody knows what has become of the other one: the same again is no mistake.
        hints.store(&set(2, 1), soon()).unwrap();
        proxy.cut(true);
        let error = hints.candidates(&log(), after_millis(1500)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        proxy.cut(false);
        assert_eq!(points(&hints), [2, 1]);
    });
}

#[test]
fn one_of_several_members_is_enough() {
    with_etcd(|server| {
        // One takes connections and says nothing, two are not there.
        let silent = Proxy::to(server.port());
        silent.mute(true);
        let gone = Proxy::to(1);
        let etcd = Etcd::new(
            [gone.address(), silent.address(), server.address(), "etcd://127.0.0.1:1".into()],
            quick(),
        )
        .unwrap();
        let hints = etcd.hints(KEY).unwrap();
        for seq_no in 1..=10 {
            hints.store(&set(seq_no, 1), soon()).unwrap();
        }
        assert_eq!(points(&hints), [10, 1]);
    });
}

#[test]
fn whoever_is_named_wrongly_is_told_before_anything_is_asked() {
    let new = |members: &[&str]| Etcd::new(members, EtcdOptions::default()).unwrap_err().kind();
    for members in [
        &[][..],
        &["localhost:2379"],
        &["etcd://"],
        &["etcd://host:1/path"],
        &["gazette://host:1"],
        &["etcd://user:word@host:1"],
        &["etcd://one:1", "etcds://two:1"],
    ] {
        assert_eq!(new(members), ErrorKind::Invalid, "{members:?}");
    }
    let etcd = Etcd::new(["etcd://127.0.0.1:1"], quick()).unwrap();
    for key in ["", "/hints/", "/"] {
        assert_eq!(etcd.hints(key).unwrap_err().kind(), ErrorKind::Invalid, "{key:?}");
    }
    // A name that no machine has is told by the first call.
    let etcd = Etcd::new(["etcd://no such host:1"], quick());
    let told = etcd.and_then(|etcd| etcd.hints(KEY)?.store(&set(1, 1), after_millis(300)));
    assert!(matches!(told.unwrap_err().kind(), ErrorKind::Invalid | ErrorKind::Unavailable));
}
