//! The seam to the C++ part of the adapter (`shim.cc`), which has the same layouts in its own words.
//!
//! *Invariants.* Everything C++ hands over is read within the call that brings it, but for the two kinds of pointers
//! that are made here: the files of an environment, released with it, and a writer, released with its file. No panic
//! leaves this file: the recorder fails, and RocksDB is told.
//!
//! *Does not* decide anything: `files` does.

#![expect(unsafe_code, reason = "RocksDB is C++, and calls back")]

use std::any::Any;
use std::ffi::{OsStr, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::slice;
use std::sync::Arc;

use super::files::{Files, LocalFailure, Writer};
use crate::error::{Error, ErrorKind};
use crate::vfs::OpenMode;

/// Bytes that are C++'s, a path or content.
#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    data: *const u8,
    len: usize,
}

const DONE: i32 = 0;
const LOCAL: i32 = 1;
const IO_ERROR: i32 = 2;
const FENCED: i32 = 3;
const NOT_SUPPORTED: i32 = 4;
const NOT_FOUND: i32 = 5;
const NO_SPACE: i32 = 6;

const TEXT_BYTES: usize = 1016;

/// How a call ended.
#[repr(C)]
struct Failure {
    code: i32,
    len: u32,
    text: [u8; TEXT_BYTES],
}

/// Makes the local change; 0 where it succeeded.
type Local = unsafe extern "C" fn(*mut c_void) -> i32;

/// The local change of one call.
struct Step {
    local: Local,
    context: *mut c_void,
}

/// An offset that stands for the end of the file.
const AT_END: u64 = u64::MAX;

type OnPath = unsafe extern "C" fn(*const c_void, Bytes, Local, *mut c_void, *mut Failure);
type OnPaths = unsafe extern "C" fn(*const c_void, Bytes, Bytes, Local, *mut c_void, *mut Failure);
type OnWriter = unsafe extern "C" fn(*const c_void, Local, *mut c_void, *mut Failure);

/// The calls of C++ to Rust.
#[repr(C)]
struct Calls {
    release: unsafe extern "C" fn(*const c_void),
    open: unsafe extern "C" fn(
        *const c_void,
        Bytes,
        i32,
        u8,
        Local,
        *mut c_void,
        *mut *mut c_void,
        *mut Failure,
    ),
    remove: OnPath,
    rename: OnPaths,
    link: OnPaths,
    change_dir: OnPath,
    sync_path: OnPath,
    write: unsafe extern "C" fn(*const c_void, u64, Bytes, Local, *mut c_void, *mut Failure),
    set_len: unsafe extern "C" fn(*const c_void, u64, Local, *mut c_void, *mut Failure),
    sync: OnWriter,
    close: OnWriter,
    release_writer: unsafe extern "C" fn(*mut c_void),
}

static CALLS: Calls = Calls {
    release,
    open,
    remove,
    rename,
    link,
    change_dir,
    sync_path,
    write,
    set_len,
    sync,
    close,
    release_writer,
};

unsafe extern "C" {
    /// Makes an environment over the default file system, which owns `files`; see `shim.cc`.
    fn recoverylog_rocksdb_env_v0_1(calls: *const Calls, files: *const c_void) -> *mut c_void;
}

// RocksDB calls from any of its threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Files>();
    shared::<Writer>();
};

/// Makes the environment whose files are `files`.
pub(super) fn environment(files: Arc<Files>) -> rocksdb::Env {
    // SAFETY: the table is static, and the environment takes over the count of `files` that `into_raw` leaves. What is
    // returned is a `rocksdb_env_t` with one owner, as `build.rs` has made sure; `from_raw` becomes that owner.
    unsafe {
        let env = recoverylog_rocksdb_env_v0_1(&raw const CALLS, Arc::into_raw(files).cast());
        rocksdb::Env::from_raw(env.cast())
    }
}

impl Step {
    fn make(&self) -> io::Result<()> {
        // SAFETY: both are C++'s, for the time of the call that is under way, and it makes the step once.
        match unsafe { (self.local)(self.context) } {
            0 => Ok(()),
            _ => Err(io::Error::other(LocalFailure)),
        }
    }
}

impl Bytes {
    /// # Safety
    /// The bytes must be there for as long as `'a`.
    unsafe fn get<'a>(self) -> &'a [u8] {
        if self.len == 0 {
            // The pointer of nothing may be null.
            return &[];
        }
        // SAFETY: C++ hands over a slice that it owns; the caller vouches for the time.
        unsafe { slice::from_raw_parts(self.data, self.len) }
    }

    /// # Safety
    /// As of [`Bytes::get`].
    unsafe fn path<'a>(self) -> &'a Path {
        // SAFETY: the caller vouches.
        Path::new(OsStr::from_bytes(unsafe { self.get() }))
    }
}

/// Makes a call for `files`, and tells C++ how it ended.
///
/// # Safety
/// `failure` is C++'s, to be written to.
unsafe fn answer(files: &Files, failure: *mut Failure, call: impl FnOnce() -> io::Result<()>) {
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        // What it has left half-done is not known.
        let error = Error::new(ErrorKind::Io, format!("the adapter has panicked: {}", said(&*panic)));
        Err(io::Error::other(files.tracker().recorder().fail(error)))
    });
    let (code, text) = match &outcome {
        Ok(()) => (DONE, String::new()),
        Err(error) => {
            let code = match code(error) {
                // RocksDB passes over some of the others.
                NOT_SUPPORTED | NOT_FOUND | NO_SPACE if files.tracker().recorder().check().is_err() => {
                    IO_ERROR
                }
                code => code,
            };
            (code, error.to_string())
        }
    };
    let len = text.len().min(TEXT_BYTES);
    // SAFETY: the caller's; the text is a place of `TEXT_BYTES` bytes.
    unsafe {
        (&raw mut (*failure).code).write(code);
        (&raw mut (*failure).len).write(len as u32);
        (&raw mut (*failure).text).cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), len);
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

fn code(error: &io::Error) -> i32 {
    let inner = error.get_ref();
    if inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<LocalFailure>) {
        return LOCAL;
    }
    let kind = inner.and_then(|inner| inner.downcast_ref::<Error>()).map(Error::kind);
    match (error.kind(), kind) {
        (_, Some(ErrorKind::Fenced)) => FENCED,
        (io::ErrorKind::Unsupported, _) | (_, Some(ErrorKind::Invalid)) => NOT_SUPPORTED,
        (io::ErrorKind::NotFound, _) => NOT_FOUND,
        (io::ErrorKind::StorageFull, _) => NO_SPACE,
        _ => IO_ERROR,
    }
}

/// # Safety
/// As of every call of the table: `files` is what [`environment`] handed over, or `writer` what [`open`] did; `failure`
/// is C++'s to be written to; the rest is C++'s for the time of the call.
unsafe extern "C" fn open(
    files: *const c_void,
    path: Bytes,
    mode: i32,
    is_direct: u8,
    local: Local,
    context: *mut c_void,
    writer: *mut *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: see above; one more count is taken for the time of the call, and given to the writer.
    let (files, path) = unsafe {
        Arc::increment_strong_count(files.cast::<Files>());
        (Arc::from_raw(files.cast::<Files>()), path.path())
    };
    let step = Step { local, context };
    let mode = match mode {
        0 => OpenMode::Truncate,
        1 => OpenMode::Create,
        _ => OpenMode::ReadWrite,
    };
    let open = || {
        if let Some(opened) = files.open(path, mode, is_direct != 0, || step.make())? {
            // SAFETY: see above. It is released by `release_writer`.
            unsafe { writer.write(Box::into_raw(Box::new(opened)).cast()) };
        }
        Ok(())
    };
    // SAFETY: see above.
    unsafe { answer(&files, failure, open) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn remove(
    files: *const c_void,
    path: Bytes,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let (files, path) = unsafe { (&*files.cast::<Files>(), path.path()) };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(files, failure, || files.remove(path, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn rename(
    files: *const c_void,
    from: Bytes,
    to: Bytes,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let (files, from, to) = unsafe { (&*files.cast::<Files>(), from.path(), to.path()) };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(files, failure, || files.rename(from, to, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn link(
    files: *const c_void,
    existing: Bytes,
    path: Bytes,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let (files, existing, path) = unsafe { (&*files.cast::<Files>(), existing.path(), path.path()) };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(files, failure, || files.link(existing, path, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn change_dir(
    files: *const c_void,
    path: Bytes,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let (files, path) = unsafe { (&*files.cast::<Files>(), path.path()) };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(files, failure, || files.change_dir(path, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn sync_path(
    files: *const c_void,
    path: Bytes,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let (files, path) = unsafe { (&*files.cast::<Files>(), path.path()) };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(files, failure, || files.sync_path(path, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn write(
    writer: *const c_void,
    offset: u64,
    bytes: Bytes,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let (writer, bytes) = unsafe { (&*writer.cast::<Writer>(), bytes.get()) };
    let step = Step { local, context };
    let offset = Some(offset).filter(|offset| *offset != AT_END);
    // SAFETY: the caller's.
    unsafe { answer(writer.files(), failure, || writer.write(offset, bytes, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn set_len(
    writer: *const c_void,
    len: u64,
    local: Local,
    context: *mut c_void,
    failure: *mut Failure,
) {
    // SAFETY: the caller's.
    let writer = unsafe { &*writer.cast::<Writer>() };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(writer.files(), failure, || writer.set_len(len, || step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn sync(writer: *const c_void, local: Local, context: *mut c_void, failure: *mut Failure) {
    // SAFETY: the caller's.
    let writer = unsafe { &*writer.cast::<Writer>() };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(writer.files(), failure, || writer.sync(|| step.make())) };
}

/// # Safety
/// As of [`open`].
unsafe extern "C" fn close(writer: *const c_void, local: Local, context: *mut c_void, failure: *mut Failure) {
    // SAFETY: the caller's.
    let writer = unsafe { &*writer.cast::<Writer>() };
    let step = Step { local, context };
    // SAFETY: the caller's.
    unsafe { answer(writer.files(), failure, || writer.close(|| step.make())) };
}

/// # Safety
/// `writer` is what [`open`] handed over, for the last time.
unsafe extern "C" fn release_writer(writer: *mut c_void) {
    // SAFETY: the caller's. Nothing in it panics as it is dropped: a handle, a descriptor, a count.
    drop(unsafe { Box::from_raw(writer.cast::<Writer>()) });
}

/// # Safety
/// `files` is what [`environment`] handed over, for the last time.
unsafe extern "C" fn release(files: *const c_void) {
    // SAFETY: the caller's.
    drop(unsafe { Arc::from_raw(files.cast::<Files>()) });
}
