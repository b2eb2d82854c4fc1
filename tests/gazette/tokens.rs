//! What proves who asks.
//!
//! *Invariants.* Each call carries a token, of what it may do. A token that is not taken is an error at once.
//!
//! *Does not* let a token expire.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use recoverylog::journal::{Auth, JournalError, Journals};
use sha2::Sha256;

use crate::double::{Call, Double, Options};
use crate::{Fixture, ONE, client, name, quick, soon, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

#[test]
fn a_given_token_is_sent_with_each_call() {
    minute(|| {
        let mut options = quick();
        options.auth = Auth::Token("some.given.token".into());
        let authorization = Some("Bearer some.given.token".to_owned());
        let cluster = Options { authorization: authorization.clone(), ..Options::default() };
        let fixture = Fixture::with(cluster, options);
        let whole = fixture.filled(3);
        assert!(fixture.read().unwrap() == whole);
        fixture.journal.fragments(soon()).unwrap();
        let calls = fixture.double.calls();
        for call in [Call::List, Call::Apply, Call::Append, Call::Read, Call::Fragments] {
            assert!(calls.iter().any(|came| came.call == call), "{call:?}");
        }
        assert!(calls.iter().all(|came| came.authorization == authorization));
    });
}

/// Checks the signature of a token, and returns its claims.
fn claims(authorization: &str, key: &[u8]) -> serde_json::Value {
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signer: Hmac<Sha256> = Hmac::new_from_slice(key).unwrap();
    signer.update(signed.as_bytes());
    signer.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(json(header)["alg"], "HS256");
    json(claims)
}

#[test]
fn keys_sign_a_token_for_what_each_call_does() {
    minute(|| {
        let mut options = quick();
        options.auth = Auth::Keys("c2VjcmV0,b3RoZXI=".into());
        let fixture = Fixture::with(Options::default(), options);
        let whole = fixture.filled(3);
        assert!(fixture.read().unwrap() == whole);
        fixture.journal.fragments(soon()).unwrap();
        let mut seen = 0;
        for came in fixture.double.calls() {
            let claims = claims(&came.authorization.unwrap(), b"secret");
            let cap = match came.call {
                Call::List => 2,
                Call::Apply => 4,
                Call::Read | Call::Fragments => 8,
                Call::Append => 16,
            };
            assert_eq!(claims["cap"], cap, "{:?} of {}", came.call, came.journal);
            let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
            assert!(issued < expires && expires - issued <= 2 * 3600);
            seen |= cap;
        }
        assert_eq!(seen, 2 | 4 | 8 | 16);
    });
}

#[test]
fn a_token_that_is_not_taken_is_an_error_at_once() {
    minute(|| {
        let cluster = Options { authorization: Some("Bearer right".into()), ..Options::default() };
        for auth in [Auth::None, Auth::Token("wrong".into()), Auth::Keys("c2VjcmV0".into())] {
            let double = Double::start(cluster.clone());
            let mut options = quick();
            options.auth = auth.clone();
            let opened = client(&double, &[0], options).open(&name(ONE));
            match opened {
                Err(JournalError::NotAllowed { what, .. }) => assert!(what.contains("signature"), "{what}"),
                other => panic!("{auth:?}: {other:?}"),
            }
            assert_eq!(double.calls().len(), 1, "{auth:?}: it was not asked again");
        }
    });
}

#[test]
fn a_token_that_is_taken_no_more_ends_appends_reads_and_listings() {
    minute(|| {
        let fixture = Fixture::new();
        fixture.filled(3);
        fixture.double.demand("Bearer other");
        let before = fixture.double.calls().len();
        assert!(matches!(fixture.append(b"x"), Err(JournalError::NotAllowed { .. })));
        assert!(matches!(fixture.journal.head(soon()), Err(JournalError::NotAllowed { .. })));
        assert!(matches!(fixture.journal.fragments(soon()), Err(JournalError::NotAllowed { .. })));
        assert!(matches!(fixture.read(), Err(JournalError::NotAllowed { .. })));
        assert!(fixture.journals.list().is_err());
        assert_eq!(fixture.double.calls().len() - before, 5);
    });
}
