//! The double itself, by calls that the library does not make: that it answers as real brokers do.
//!
//! *Invariants.* What is expected here is asked of a real broker too, by `tests/gazette_live`.
//!
//! *Does not* test the library.

use std::time::Duration;

use crate::claims::{CLAIMS, Raw, empty, first};
use crate::double::Options;
use crate::protocol::{AppendRequest, Status};
use crate::{Fixture, ONE, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

#[test]
fn the_double_answers_as_brokers_are_claimed_to() {
    for (name, claim) in CLAIMS {
        println!("{name}");
        minute(|| {
            let fixture = Fixture::new();
            claim(&Raw::new(&fixture.double.address(0)), ONE);
        });
    }
}

#[test]
fn who_is_not_the_primary_asks_it_or_names_it() {
    minute(|| {
        let options = Options { brokers: 2, primary: 1, ..Options::default() };
        let fixture = Fixture::with(options, crate::quick());
        let raw = Raw::new(&fixture.double.address(0));
        let named = AppendRequest { do_not_proxy: true, ..first(ONE) };
        let answer = raw.append([named, empty()], true).unwrap();
        assert_eq!(answer.status(), Status::NotJournalPrimaryBroker);
        let header = answer.header.unwrap();
        assert_eq!(header.process_id.unwrap().suffix, "broker-0");
        let route = header.route.unwrap();
        assert_eq!(route.endpoints[1], fixture.double.address(1));
        assert_eq!((route.primary, route.members.len()), (1, 2));
        let answer = raw.append([first(ONE), empty()], true).unwrap();
        assert_eq!(answer.status(), Status::Ok);
        assert_eq!(answer.header.unwrap().process_id.unwrap().suffix, "broker-1");
        let missing = raw.append([first("acme/none"), empty()], true).unwrap();
        assert_eq!(missing.status(), Status::JournalNotFound);
        assert_eq!(missing.header.unwrap().route.unwrap().primary, -1);
        let failed = raw.append([first("aaa//b"), empty()], true).unwrap_err();
        assert_eq!(failed, "Journal: must be a clean path (aaa//b)");
    });
}
