//! The suite that every hint store runs.
//!
//! *Invariants.* Every case has keys of its own, in one etcd.
//!
//! *Does not* know what the cases are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recoverylog::hint_store::conformance::{self, Place};
use recoverylog::hint_store::{Etcd, HintStore};

use crate::{quick, with_etcd};

#[test]
fn hints_in_etcd_conform() {
    with_etcd(|server| {
        let etcd = Etcd::new([server.address()], quick()).unwrap();
        let next = AtomicU64::new(0);
        let make = || {
            let key = format!("/conformance/{}", next.fetch_add(1, Ordering::Relaxed));
            let address = server.address();
            let again = move || -> Arc<dyn HintStore> {
                let etcd = Etcd::new([&address], quick()).unwrap();
                Arc::new(etcd.hints(key.clone()).unwrap())
            };
            let key = format!("/conformance/{}", next.load(Ordering::Relaxed) - 1);
            Place::empty(Arc::new(etcd.hints(key).unwrap())).reopened_by(again)
        };
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert_eq!(report.declined, [""; 0]);
    });
}
