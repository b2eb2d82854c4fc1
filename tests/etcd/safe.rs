//! An etcd with TLS, and one with users.
//!
//! *Invariants.* Nobody is spoken to whose certificate is not of the given authority and for the name that is meant.
//!
//! *Does not* try what the TLS library tests: expiry, revocation, versions.

use std::time::Duration;

use recoverylog::ErrorKind;
use recoverylog::hint_store::{Etcd, EtcdHints, EtcdOptions, HintStore};

use crate::authority::Authority;
use crate::server::Server;
use crate::{KEY, after_millis, points, quick, set, soon, with_etcd, within};

/// Starts an etcd with a certificate of `authority` for `name`; it wants one of `knows`, where that is given.
fn server(authority: &Authority, name: &str, knows: Option<&Authority>) -> Option<Server> {
    Server::start_as("https", |folder| {
        let write = |name: &str, pem: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path.display().to_string()
        };
        let (certificate, key) = authority.sign(name);
        let certificate = write("certificate.pem", &certificate);
        let mut options =
            vec!["--cert-file".into(), certificate, "--key-file".into(), write("key.pem", &key)];
        if let Some(knows) = knows {
            options.extend([
                "--client-cert-auth".into(),
                "--trusted-ca-file".into(),
                write("ca.pem", &knows.pem()),
            ]);
        }
        options
    })
}

fn trusting(authority: &Authority) -> EtcdOptions {
    let mut options = quick();
    options.tls.authority_pem = Some(authority.pem());
    options
}

fn hints(server: &Server, options: EtcdOptions) -> EtcdHints {
    let address = server.address().replace("127.0.0.1", "localhost");
    Etcd::new([address], options).unwrap().hints(KEY).unwrap()
}

fn refused(server: &Server, options: EtcdOptions) {
    let error = hints(server, options).store(&set(1, 1), after_millis(1500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[test]
fn an_etcd_with_a_certificate_of_the_authority_for_its_name_is_spoken_to_and_no_other() {
    let (ours, others) = (Authority::new(), Authority::new());
    let Some(right) = server(&ours, "localhost", None) else { return };
    within(Duration::from_secs(60), move || {
        let stored = hints(&right, trusting(&ours));
        stored.store(&set(1, 1), soon()).unwrap();
        assert_eq!(points(&stored), [1]);
        refused(&right, trusting(&others));
        refused(&right, quick());
        let wrong = server(&ours, "etcd.example", None).unwrap();
        refused(&wrong, trusting(&ours));
        let mut options = trusting(&ours);
        options.tls.server_name = Some("etcd.example".into());
        hints(&wrong, options).store(&set(1, 1), soon()).unwrap();
    });
}

#[test]
fn an_etcd_that_wants_a_certificate_gets_the_one_that_is_given() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let Some(right) = server(&ours, "localhost", Some(&clients)) else { return };
    within(Duration::from_secs(60), move || {
        refused(&right, trusting(&ours));
        let mut options = trusting(&ours);
        options.tls.identity_pem = Some(clients.sign("client"));
        hints(&right, options).store(&set(1, 1), soon()).unwrap();
    });
}

#[test]
fn users_prove_who_they_are_by_their_password() {
    with_etcd(|server| {
        server.raw(async |mut client| {
            client.user_add("root", "secret", None).await.unwrap();
            client.user_grant_role("root", "root").await.unwrap();
            client.auth_enable().await.unwrap();
        });
        let as_user = |user: Option<(&str, &str)>| {
            let mut options = quick();
            options.user = user.map(|(name, word)| (name.into(), word.into()));
            Etcd::new([server.address()], options).unwrap().hints(KEY).unwrap()
        };
        let known = as_user(Some(("root", "secret")));
        known.store(&set(1, 1), soon()).unwrap();
        for user in [None, Some(("root", "wrong")), Some(("nobody", "secret"))] {
            let error = as_user(user).store(&set(2, 1), soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(points(&known), [1]);
        assert!(!format!("{known:?}").contains("secret"));
    });
}
