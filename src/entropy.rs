//! The only door through which randomness enters the crate.
//!
//! *Invariants.* What is drawn names things apart, such as authors, or spreads waits. Nothing that is recorded or played
//! depends on it.
//!
//! *Does not* serve cryptography, nor tests, which are seeded.

use crate::error::{Error, ErrorKind};
use crate::ids::Author;

/// Draws a number below 1,000, by which those who failed together wait differently; 500 where nothing can be drawn.
#[cfg(any(feature = "etcd", feature = "gazette"))]
pub(crate) fn thousandths() -> u32 {
    getrandom::u32().map_or(500, |drawn| drawn % 1_000)
}

/// Draws an author at random, for the term of one writer.
///
/// # Errors
/// [`ErrorKind::Io`] where the system has no random bytes to give.
pub fn random_author() -> Result<Author, Error> {
    loop {
        let drawn =
            getrandom::u32().map_err(|e| Error::new(ErrorKind::Io, "no random bytes").with_source(e))?;
        // The reference never draws the largest number either.
        if let Some(author) = Author::new(drawn).filter(|author| author.get() != u32::MAX) {
            return Ok(author);
        }
    }
}
