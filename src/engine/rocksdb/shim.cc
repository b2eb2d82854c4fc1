// A file system for RocksDB that lets Rust record what RocksDB does to files.
//
// The default file system of RocksDB does the work. Each call that changes a file is made within a call to Rust, which
// decides whether it may be made, makes it through a callback, and records what it did. Calls that only read go to the
// default file system as they are. Rust hands its functions over as a table, so that nothing here or there is looked up
// by name.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/version.h"

// Classes are derived here whose virtual functions another version orders in another way.
static_assert(ROCKSDB_MAJOR == 11 && ROCKSDB_MINOR == 8,
              "engine/rocksdb is made for RocksDB 11.8: use the version of librocksdb-sys that Cargo.toml names");

namespace {

using ROCKSDB_NAMESPACE::DirFsyncOptions;
using ROCKSDB_NAMESPACE::DataVerificationInfo;
using ROCKSDB_NAMESPACE::Env;
using ROCKSDB_NAMESPACE::FileOptions;
using ROCKSDB_NAMESPACE::FileSystem;
using ROCKSDB_NAMESPACE::FileSystemWrapper;
using ROCKSDB_NAMESPACE::FSDirectory;
using ROCKSDB_NAMESPACE::FSDirectoryWrapper;
using ROCKSDB_NAMESPACE::FSRandomRWFile;
using ROCKSDB_NAMESPACE::FSRandomRWFileOwnerWrapper;
using ROCKSDB_NAMESPACE::FSWritableFile;
using ROCKSDB_NAMESPACE::FSWritableFileOwnerWrapper;
using ROCKSDB_NAMESPACE::IODebugContext;
using ROCKSDB_NAMESPACE::IOOptions;
using ROCKSDB_NAMESPACE::IOStatus;
using ROCKSDB_NAMESPACE::MemoryMappedFileBuffer;
using ROCKSDB_NAMESPACE::Slice;

// ---- The seam to Rust; ffi.rs has the same in its own words. ----

struct Bytes {
  const char* data;
  size_t len;
};

enum Code : int32_t {
  kDone = 0,
  kLocal = 1,  // The callback failed, and has kept its own status.
  kIoError = 2,
  kFenced = 3,
  kNotSupported = 4,
  kNotFound = 5,
  kNoSpace = 6,
};

struct Failure {
  int32_t code;
  uint32_t len;
  char text[1016];
};

// Makes the local change; 0 where it succeeded.
using Local = int32_t (*)(void* context);

enum Mode : int32_t { kTruncate = 0, kCreate = 1, kExisting = 2 };

constexpr uint64_t kAtEnd = std::numeric_limits<uint64_t>::max();

struct Calls {
  void (*release)(const void* files);
  void (*open)(const void* files, Bytes path, int32_t mode, uint8_t is_direct, Local, void*, void** writer, Failure*);
  void (*remove)(const void* files, Bytes path, Local, void*, Failure*);
  void (*rename)(const void* files, Bytes from, Bytes to, Local, void*, Failure*);
  void (*link)(const void* files, Bytes existing, Bytes path, Local, void*, Failure*);
  void (*change_dir)(const void* files, Bytes path, Local, void*, Failure*);
  void (*sync_path)(const void* files, Bytes path, Local, void*, Failure*);
  void (*write)(const void* writer, uint64_t offset, Bytes bytes, Local, void*, Failure*);
  void (*set_len)(const void* writer, uint64_t len, Local, void*, Failure*);
  void (*sync)(const void* writer, Local, void*, Failure*);
  void (*close)(const void* writer, Local, void*, Failure*);
  void (*release_writer)(void* writer);
};

Bytes Of(const Slice& slice) { return Bytes{slice.data(), slice.size()}; }

template <typename Change>
struct Step {
  Change& change;
  IOStatus status;

  static int32_t Make(void* self) noexcept {
    auto* step = static_cast<Step*>(self);
    step->status = step->change();
    return step->status.ok() ? 0 : 1;
  }
};

// Has Rust make `change` within `call`, and returns how that ended.
template <typename Call, typename Change>
IOStatus Within(Call&& call, Change&& change) {
  Step<std::remove_reference_t<Change>> step{change, IOStatus::OK()};
  Failure failure;
  failure.code = kIoError;
  failure.len = 0;
  call(&decltype(step)::Make, static_cast<void*>(&step), &failure);
  const Slice text(failure.text, failure.len);
  switch (failure.code) {
    case kDone:
    case kLocal:
      return std::move(step.status);
    case kFenced:
      return IOStatus::IOFenced(text);
    case kNotSupported:
      return IOStatus::NotSupported(text);
    case kNotFound:
      return IOStatus::PathNotFound(text);
    case kNoSpace:
      return IOStatus::NoSpace(text);
    default:
      return IOStatus::IOError(text);
  }
}

// What Rust knows of a file that is open for writing.
class Writer {
 public:
  Writer(const Calls& calls, void* writer) : calls_(calls), writer_(writer) {}
  ~Writer() { calls_.release_writer(writer_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Writes in pieces, each of which is made and recorded before the next.
  template <typename WritePiece>
  IOStatus Write(uint64_t offset, const Slice& data, WritePiece&& write_piece) {
    size_t done = 0;
    do {
      const Slice piece(data.data() + done, std::min(data.size() - done, kPieceBytes));
      const uint64_t at = offset == kAtEnd ? kAtEnd : offset + done;
      IOStatus status = Within(
          [&](Local local, void* context, Failure* failure) {
            calls_.write(writer_, at, Of(piece), local, context, failure);
          },
          [&] { return write_piece(piece, at); });
      if (!status.ok()) {
        return status;
      }
      done += piece.size();
    } while (done < data.size());
    return IOStatus::OK();
  }

  template <typename Change>
  IOStatus SetLen(uint64_t len, Change&& change) {
    return Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.set_len(writer_, len, local, context, failure);
        },
        change);
  }

  template <typename Change>
  IOStatus Sync(Change&& change) {
    return Within(
        [&](Local local, void* context, Failure* failure) { calls_.sync(writer_, local, context, failure); },
        change);
  }

  template <typename Change>
  IOStatus Close(Change&& change) {
    return Within(
        [&](Local local, void* context, Failure* failure) { calls_.close(writer_, local, context, failure); },
        change);
  }

 private:
  // The most that is recorded as one operation; a multiple of every block size of direct I/O.
  static constexpr size_t kPieceBytes = size_t{1} << 20;

  const Calls& calls_;
  void* const writer_;
};

class RecordedWritableFile final : public FSWritableFileOwnerWrapper {
 public:
  RecordedWritableFile(std::unique_ptr<FSWritableFile>&& target, const Calls& calls, void* writer)
      : FSWritableFileOwnerWrapper(std::move(target)), writer_(calls, writer) {}

  ~RecordedWritableFile() override {
    if (!closed_) {
      // Nobody is left to be told; Rust fails the recorder where something cannot be recorded.
      Close(IOOptions(), nullptr).PermitUncheckedError();
    }
  }

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* dbg) override {
    if (use_direct_io()) {
      // RocksDB writes such files by position. Where they end is not known while the padding of their last block
      // is held back.
      return IOStatus::NotSupported("Append to a file of direct I/O", "use PositionedAppend");
    }
    return writer_.Write(kAtEnd, data,
                         [&](const Slice& piece, uint64_t) { return target()->Append(piece, options, dbg); });
  }

  IOStatus Append(const Slice& data, const IOOptions& options, const DataVerificationInfo&,
                  IODebugContext* dbg) override {
    return Append(data, options, dbg);
  }

  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                            IODebugContext* dbg) override {
    return writer_.Write(offset, data, [&](const Slice& piece, uint64_t at) {
      return target()->PositionedAppend(piece, at, options, dbg);
    });
  }

  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                            const DataVerificationInfo&, IODebugContext* dbg) override {
    return PositionedAppend(data, offset, options, dbg);
  }

  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* dbg) override {
    return writer_.SetLen(size, [&] { return target()->Truncate(size, options, dbg); });
  }

  IOStatus Close(const IOOptions& options, IODebugContext* dbg) override {
    closed_ = true;
    return writer_.Close([&] { return target()->Close(options, dbg); });
  }

  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    return writer_.Sync([&] { return target()->Sync(options, dbg); });
  }

  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    return writer_.Sync([&] { return target()->Fsync(options, dbg); });
  }

 private:
  Writer writer_;
  bool closed_ = false;
};

class RecordedRandomRWFile final : public FSRandomRWFileOwnerWrapper {
 public:
  RecordedRandomRWFile(std::unique_ptr<FSRandomRWFile>&& target, const Calls& calls, void* writer)
      : FSRandomRWFileOwnerWrapper(std::move(target)), writer_(calls, writer) {}

  ~RecordedRandomRWFile() override {
    if (!closed_) {
      Close(IOOptions(), nullptr).PermitUncheckedError();
    }
  }

  IOStatus Write(uint64_t offset, const Slice& data, const IOOptions& options, IODebugContext* dbg) override {
    return writer_.Write(offset, data, [&](const Slice& piece, uint64_t at) {
      return target()->Write(at, piece, options, dbg);
    });
  }

  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    return writer_.Sync([&] { return target()->Sync(options, dbg); });
  }

  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    return writer_.Sync([&] { return target()->Fsync(options, dbg); });
  }

  IOStatus Close(const IOOptions& options, IODebugContext* dbg) override {
    closed_ = true;
    return writer_.Close([&] { return target()->Close(options, dbg); });
  }

 private:
  Writer writer_;
  bool closed_ = false;
};

class RecordedFileSystem final : public FileSystemWrapper {
 public:
  RecordedFileSystem(const std::shared_ptr<FileSystem>& target, const Calls& calls, const void* files)
      : FileSystemWrapper(target), calls_(calls), files_(files) {}
  ~RecordedFileSystem() override { calls_.release(files_); }

  const char* Name() const override { return "RecoverylogFileSystem"; }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* result, IODebugContext* dbg) override {
    return OpenWritable(path, options, kTruncate, result, [&](const FileOptions& safe) {
      return target()->NewWritableFile(path, safe, result, dbg);
    });
  }

  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options,
                              std::unique_ptr<FSWritableFile>* result, IODebugContext* dbg) override {
    return OpenWritable(path, options, kCreate, result, [&](const FileOptions& safe) {
      return target()->ReopenWritableFile(path, safe, result, dbg);
    });
  }

  // A file that is written over would live in the log from its first creation on: it is begun anew instead.
  IOStatus ReuseWritableFile(const std::string& path, const std::string& old_path, const FileOptions& options,
                             std::unique_ptr<FSWritableFile>* result, IODebugContext* dbg) override {
    IOStatus status = RenameFile(old_path, path, options.io_options, dbg);
    if (!status.ok()) {
      return status;
    }
    return NewWritableFile(path, options, result, dbg);
  }

  IOStatus NewRandomRWFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<FSRandomRWFile>* result, IODebugContext* dbg) override {
    void* writer = nullptr;
    IOStatus status = Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.open(files_, Of(path), kExisting, 0, local, context, &writer, failure);
        },
        [&] { return target()->NewRandomRWFile(path, options, result, dbg); });
    if (writer != nullptr) {
      result->reset(new RecordedRandomRWFile(std::move(*result), calls_, writer));
    }
    return status;
  }

  IOStatus NewMemoryMappedFileBuffer(const std::string& path, std::unique_ptr<MemoryMappedFileBuffer>*) override {
    return IOStatus::NotSupported("a file cannot be written through memory where it is recorded", path);
  }

  IOStatus NewDirectory(const std::string& path, const IOOptions& options, std::unique_ptr<FSDirectory>* result,
                        IODebugContext* dbg) override {
    IOStatus status = target()->NewDirectory(path, options, result, dbg);
    if (status.ok()) {
      result->reset(new RecordedDirectory(std::move(*result), *this, path));
    }
    return status;
  }

  IOStatus DeleteFile(const std::string& path, const IOOptions& options, IODebugContext* dbg) override {
    return Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.remove(files_, Of(path), local, context, failure);
        },
        [&] { return target()->DeleteFile(path, options, dbg); });
  }

  IOStatus Truncate(const std::string& path, size_t size, const IOOptions& options, IODebugContext* dbg) override {
    void* writer = nullptr;
    IOStatus status = Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.open(files_, Of(path), kExisting, 0, local, context, &writer, failure);
        },
        [] { return IOStatus::OK(); });
    if (!status.ok()) {
      return status;
    }
    if (writer == nullptr) {
      return target()->Truncate(path, size, options, dbg);
    }
    Writer opened(calls_, writer);
    return opened.SetLen(size, [&] { return target()->Truncate(path, size, options, dbg); });
  }

  IOStatus CreateDir(const std::string& path, const IOOptions& options, IODebugContext* dbg) override {
    return ChangeDir(path, [&] { return target()->CreateDir(path, options, dbg); });
  }

  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions& options, IODebugContext* dbg) override {
    return ChangeDir(path, [&] { return target()->CreateDirIfMissing(path, options, dbg); });
  }

  IOStatus DeleteDir(const std::string& path, const IOOptions& options, IODebugContext* dbg) override {
    return ChangeDir(path, [&] { return target()->DeleteDir(path, options, dbg); });
  }

  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* dbg) override {
    return Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.rename(files_, Of(from), Of(to), local, context, failure);
        },
        [&] { return target()->RenameFile(from, to, options, dbg); });
  }

  IOStatus LinkFile(const std::string& existing, const std::string& path, const IOOptions& options,
                    IODebugContext* dbg) override {
    return Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.link(files_, Of(existing), Of(path), local, context, failure);
        },
        [&] { return target()->LinkFile(existing, path, options, dbg); });
  }

  IOStatus SyncFile(const std::string& path, const FileOptions& file_options, const IOOptions& options,
                    bool use_fsync, IODebugContext* dbg) override {
    return SyncPath(path, [&] { return target()->SyncFile(path, file_options, options, use_fsync, dbg); });
  }

 private:
  class RecordedDirectory final : public FSDirectoryWrapper {
   public:
    RecordedDirectory(std::unique_ptr<FSDirectory>&& target, RecordedFileSystem& fs, std::string path)
        : FSDirectoryWrapper(target.get()), owned_(std::move(target)), fs_(fs), path_(std::move(path)) {}

    IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
      return fs_.SyncPath(path_, [&] { return owned_->Fsync(options, dbg); });
    }

    IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* dbg,
                                 const DirFsyncOptions& dir_options) override {
      return fs_.SyncPath(path_, [&] { return owned_->FsyncWithDirOptions(options, dbg, dir_options); });
    }

   private:
    std::unique_ptr<FSDirectory> owned_;
    RecordedFileSystem& fs_;
    const std::string path_;
  };

  template <typename Open>
  IOStatus OpenWritable(const std::string& path, const FileOptions& options, Mode mode,
                        std::unique_ptr<FSWritableFile>* result, Open&& open) {
    FileOptions safe = options;
    // What is written through a mapping is not seen here; space beyond the end of a file is not part of it.
    safe.use_mmap_writes = false;
    safe.fallocate_with_keep_size = true;
    void* writer = nullptr;
    const uint8_t is_direct = safe.use_direct_writes ? 1 : 0;
    IOStatus status = Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.open(files_, Of(path), mode, is_direct, local, context, &writer, failure);
        },
        [&] { return open(safe); });
    if (writer != nullptr) {
      result->reset(new RecordedWritableFile(std::move(*result), calls_, writer));
    } else if (!status.ok()) {
      // Opened, and then not recorded: it is not to be written to.
      result->reset();
    }
    return status;
  }

  template <typename Change>
  IOStatus ChangeDir(const std::string& path, Change&& change) {
    return Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.change_dir(files_, Of(path), local, context, failure);
        },
        change);
  }

  template <typename Change>
  IOStatus SyncPath(const std::string& path, Change&& change) {
    return Within(
        [&](Local local, void* context, Failure* failure) {
          calls_.sync_path(files_, Of(path), local, context, failure);
        },
        change);
  }

  const Calls& calls_;
  const void* const files_;
};

// What the C interface of RocksDB calls rocksdb_env_t; build.rs compares it with the source of that.
struct CEnv {
  Env* rep;
  bool is_default;
};

}  // namespace

// Makes an environment over the default file system. `calls` lives as long as the process; `files` is released with the
// environment, which is the caller's, as a rocksdb_env_t. Where there is no memory the process ends.
extern "C" void* recoverylog_rocksdb_env_v0_1(const Calls* calls, const void* files) noexcept {
  auto fs = std::make_shared<RecordedFileSystem>(FileSystem::Default(), *calls, files);
  return new CEnv{ROCKSDB_NAMESPACE::NewCompositeEnv(fs).release(), false};
}
