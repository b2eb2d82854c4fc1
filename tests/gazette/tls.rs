//! Brokers with TLS.
//!
//! *Invariants.* Nobody is spoken to whose certificate is not of the given authority and for the name that is meant.
//!
//! *Does not* try what the TLS library tests: expiry, revocation, versions.

use std::time::Duration;

use recoverylog::journal::{Append, GazetteJournals, GazetteOptions, JournalError, Journals};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::authority::Authority;
use crate::double::{Double, Options};
use crate::{ONE, name, new_journal, quick, soon, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

fn cluster(authority: &Authority, name: &str, knows: Option<&Authority>) -> Double {
    let (certificate, key) = authority.sign(name);
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    if let Some(knows) = knows {
        tls = tls.client_ca_root(Certificate::from_pem(knows.pem()));
    }
    Double::start(Options { tls: Some(tls), host: "localhost", ..Options::default() })
}

fn trusting(authority: &Authority) -> GazetteOptions {
    let mut options = quick();
    options.tls.authority_pem = Some(authority.pem());
    options
}

/// Opens a journal and appends to it.
fn works(double: &Double, options: GazetteOptions) -> Result<(), JournalError> {
    let broker = double.address(0).replace("https://", "gazettes://");
    let journals = GazetteJournals::new([broker], options).unwrap().creating(new_journal());
    let journal = journals.open(&name(ONE))?;
    journal.append(Append::new(&b"abcd"[..]), soon()).map(drop)
}

fn fails(double: &Double, options: GazetteOptions) {
    match works(double, options) {
        Err(JournalError::Unavailable { what, .. }) => assert!(what.contains("ertificate"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert!(double.calls().is_empty(), "nothing was said to it");
}

#[test]
fn a_broker_with_a_certificate_for_its_name_is_spoken_to() {
    minute(|| {
        let authority = Authority::new();
        works(&cluster(&authority, "localhost", None), trusting(&authority)).unwrap();
    });
}

#[test]
fn a_certificate_for_another_name_is_not_taken_unless_that_name_is_meant() {
    minute(|| {
        let authority = Authority::new();
        let double = cluster(&authority, "broker.example", None);
        fails(&double, trusting(&authority));
        let mut options = trusting(&authority);
        options.tls.server_name = Some("broker.example".into());
        works(&double, options).unwrap();
    });
}

#[test]
fn a_certificate_of_another_authority_is_not_taken() {
    minute(|| {
        let authority = Authority::new();
        let double = cluster(&authority, "localhost", None);
        fails(&double, trusting(&Authority::new()));
        // Those of the system do not know it either.
        fails(&double, quick());
    });
}

#[test]
fn a_client_proves_who_it_is_by_a_certificate() {
    minute(|| {
        let (authority, clients) = (Authority::new(), Authority::new());
        let double = cluster(&authority, "localhost", Some(&clients));
        let mut options = trusting(&authority);
        options.tls.identity_pem = Some(clients.sign("client"));
        works(&double, options).unwrap();
        let before = double.calls().len();
        for identity in [None, Some(authority.sign("client"))] {
            let mut options = trusting(&authority);
            options.tls.identity_pem = identity;
            let failed = works(&double, options);
            assert!(matches!(failed, Err(JournalError::Unavailable { .. })), "{failed:?}");
        }
        assert_eq!(double.calls().len(), before);
    });
}

#[test]
fn a_broker_that_is_named_with_tls_is_not_spoken_to_without() {
    minute(|| {
        let double = Double::start(Options::default());
        let address = double.address(0).replace("http://", "gazettes://");
        let journals = GazetteJournals::new([address], quick()).unwrap();
        assert!(matches!(journals.open(&name(ONE)), Err(JournalError::Unavailable { .. })));
        assert!(double.calls().is_empty());
    });
}
