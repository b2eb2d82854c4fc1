//! Proof of who asks: a token that was given, or one that is signed for each request.
//!
//! *Invariants.* A signed token says what it is for, and is good for an hour. It is a JSON Web Token (RFC 7519) with
//! HMAC-SHA-256, as brokers with `AUTH_KEYS` demand.
//!
//! *Does not* print a key or a token.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tonic::metadata::{Ascii, MetadataValue};

use super::Auth;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};

/// Seconds for which a signed token is good.
const GOOD_FOR_SECS: i64 = 3600;
/// Seconds by which the clocks of others may be behind.
const SKEW_SECS: i64 = 60;

/// What a request may do, in the bits of a token's claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum May {
    List = 1 << 1,
    Apply = 1 << 2,
    Read = 1 << 3,
    Append = 1 << 4,
}

/// What tokens are made by.
pub(super) enum Tokens {
    Given(MetadataValue<Ascii>),
    Signed(Hmac<Sha256>),
}

impl Tokens {
    pub(super) fn new(auth: &Auth) -> Result<Option<Self>, Error> {
        let invalid = |what: &'static str| Error::new(ErrorKind::Invalid, what);
        match auth {
            Auth::None => Ok(None),
            Auth::Token(token) => {
                let bearer = header(token).map_err(|_| invalid("the token is no text of a header"))?;
                Ok(Some(Self::Given(bearer)))
            }
            Auth::Keys(keys) => {
                // As brokers take them: the first one signs, the others may have signed before.
                let first = keys.split([',', ' ', '\n']).find(|key| !key.is_empty());
                let first = first.ok_or_else(|| invalid("no key is given to sign with"))?;
                let key = STANDARD.decode(first).map_err(|_| {
                    invalid("a key to sign with is not base64")
                        .advise("give it as brokers get it in AUTH_KEYS")
                })?;
                let signer = Hmac::new_from_slice(&key).map_err(|_| invalid("no key to sign with"))?;
                Ok(Some(Self::Signed(signer)))
            }
        }
    }

    /// Returns the header of a request that does what `may` says.
    pub(super) fn bearer(&self, may: May) -> Result<MetadataValue<Ascii>, String> {
        match self {
            Self::Given(bearer) => Ok(bearer.clone()),
            Self::Signed(signer) => {
                let now = SystemClock.unix_nanos() / 1_000_000_000;
                header(&sign(signer.clone(), may, now)).map_err(|error| error.to_string())
            }
        }
    }
}

fn header(token: &str) -> Result<MetadataValue<Ascii>, tonic::metadata::errors::InvalidMetadataValue> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    value.set_sensitive(true);
    Ok(value)
}

fn sign(mut signer: Hmac<Sha256>, may: May, now: i64) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let (capability, issued, expires) = (may as u32, now - SKEW_SECS, now + GOOD_FOR_SECS);
    let claims = format!(r#"{{"cap":{capability},"sel":{{}},"iat":{issued},"exp":{expires}}}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    signer.update(signed.as_bytes());
    let signature = signer.finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_token_is_the_one_that_the_standard_makes() {
        // RFC 7515, appendix A.1: its key, header and claims.
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let mut signer: Hmac<Sha256> = Hmac::new_from_slice(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogIm\
                      h0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        signer.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signer.finalize().into_bytes());
        assert_eq!(signature, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");

        let signer: Hmac<Sha256> = Hmac::new_from_slice(b"key").unwrap();
        let token = sign(signer.clone(), May::Append, 1_000);
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        assert_eq!(claims, br#"{"cap":16,"sel":{},"iat":940,"exp":4600}"#);
        assert_ne!(sign(signer, May::Read, 1_000), token);
    }

    #[test]
    fn keys_are_taken_as_brokers_take_them_and_are_not_shown() {
        let tokens = Tokens::new(&Auth::Keys("c2VjcmV0, b3RoZXI=".into())).unwrap().unwrap();
        let bearer = tokens.bearer(May::List).unwrap();
        assert!(bearer.to_str().unwrap().starts_with("Bearer eyJ"));
        assert!(!format!("{bearer:?}").contains("eyJ"));
        assert!(!format!("{:?}", Auth::Keys("c2VjcmV0".into())).contains("c2VjcmV0"));
        for keys in ["", " ,", "not base64!"] {
            assert!(Tokens::new(&Auth::Keys(keys.into())).is_err(), "{keys}");
        }
        assert!(Tokens::new(&Auth::Token("a\nb".into())).is_err());
    }
}
