//! A call that the crate `rocksdb` does not have.

#![expect(unsafe_code, reason = "the crate has no such call, and hands its pointer out for this")]

use std::ffi::{CStr, c_char};
use std::ptr;

use rocksdb::{AsRawPtr, DB};

/// Has RocksDB check the sum of every block of every table.
#[track_caller]
pub(crate) fn verify(db: &DB) {
    let mut said: *mut c_char = ptr::null_mut();
    // SAFETY: the database is open, and the place for an error is ours.
    unsafe { librocksdb_sys::rocksdb_verify_checksum(db.as_raw_ptr(), &raw mut said) };
    if said.is_null() {
        return;
    }
    // SAFETY: RocksDB hands over a string that ends with a zero, which is freed once.
    let text = unsafe {
        let text = CStr::from_ptr(said).to_string_lossy().into_owned();
        librocksdb_sys::rocksdb_free(said.cast());
        text
    };
    panic!("a checksum does not hold: {text}")
}
