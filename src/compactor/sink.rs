//! The destination of files: a local directory or a bucket, both through `object_store`.
//!
//! Publishing creates an object if it is absent. An existing object is compared with the file: equal bytes mean
//! that an earlier attempt succeeded but its answer was lost. The file is verified against the register while it is
//! read, a bucket is sent its checksum, and no answer of a bucket is believed before the object was looked at.

use super::staged::{Loaded, OutgoingFile, StagedError};
use crate::error::{IoContext, IoError, chain};
use crate::storage::Storage;
use crate::storage::real::RealStorage;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, RetryConfig, UpdateVersion};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Url;

/// A stalled transfer is aborted after this long without an answer, and retried later.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Files that are being sent to a bucket, or copied, are in memory: together at most this, or one larger file.
const IN_FLIGHT_MIB: u32 = 128;

/// Where files are published.
#[derive(Debug, Clone)]
pub enum Destination {
    Directory(PathBuf),
    S3 {
        bucket: String,
        prefix: String,
        /// Settings of `object_store`'s S3 client by name (`endpoint`, `region`, ...).
        options: Vec<(AmazonS3ConfigKey, String)>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("the destination rejected the request or cannot be reached")]
    Store(#[from] object_store::Error),
    /// The file is not what was registered, or cannot be read.
    #[error(transparent)]
    Staged(#[from] StagedError),
    #[error("the destination confirmed that it stored {object}, but has no such object")]
    NotStored { object: String },
    #[error("the destination confirmed that it stored {object}, but the object has other content")]
    StoredWrong { object: String },
    #[error("the daemon is shutting down")]
    Stopping,
    #[error("{object} already exists with different content")]
    Conflict { object: String },
    #[error("{name} is not a valid object name at the destination")]
    Name {
        name: String,
        #[source]
        source: object_store::path::Error,
    },
}

impl Destination {
    /// The destination's address, as users write it.
    pub fn url(&self) -> String {
        match self {
            Self::Directory(path) => {
                Url::from_directory_path(path).map_or_else(|()| path.display().to_string(), String::from)
            }
            Self::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}"),
        }
    }
}

/// A destination that can be written to.
#[derive(Clone)]
pub struct Sink {
    store: Arc<dyn ObjectStore>,
    /// Set for a bucket: the same without checksums in requests.
    plain: Option<Arc<dyn ObjectStore>>,
    /// The server refuses requests with checksums.
    refuses_checksums: Arc<AtomicBool>,
    /// What may be in memory, in MiB.
    memory: Arc<Semaphore>,
    /// Prepended to every object's name.
    prefix: ObjectPath,
    /// Set for a local directory: files can be linked instead of copied.
    local: Option<Arc<LocalFileSystem>>,
}

impl Sink {
    pub fn open(destination: &Destination) -> Result<Self, SinkError> {
        match destination {
            Destination::Directory(path) => {
                if let Err(error) = RealStorage.create_dir(path) {
                    // It may be on a disk that is mounted later; starting does not wait for it.
                    let error = chain(&error);
                    tracing::error!(
                        error,
                        "cannot create the destination directory; files stay staged until it exists"
                    );
                }
                let path = path.canonicalize().or_else(|_| std::path::absolute(path));
                let path = path.context("resolve the current directory", ".")?;
                let prefix = ObjectPath::from_absolute_path(&path);
                let prefix =
                    prefix.map_err(|source| SinkError::Name { name: path.display().to_string(), source })?;
                // Published files must survive power loss before the staged ones are removed.
                let store = Arc::new(LocalFileSystem::new().with_fsync(true));
                Ok(Self { local: Some(Arc::clone(&store)), ..Self::to(store, prefix) })
            }
            Destination::S3 { bucket, prefix, options } => {
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                for (key, value) in options {
                    builder = builder.with_config(*key, value);
                }
                let mut client = object_store::ClientOptions::new()
                    .with_timeout(REQUEST_TIMEOUT)
                    .with_connect_timeout(CONNECT_TIMEOUT);
                if options.iter().any(|(key, value)| *key == allow_http() && value == "true") {
                    client = client.with_allow_http(true);
                }
                // The publisher has its own retries, which it shows to the operator.
                let retry =
                    RetryConfig { max_retries: 1, retry_timeout: CONNECT_TIMEOUT, ..RetryConfig::default() };
                let builder = builder.with_client_options(client).with_retry(retry);
                let prefix = parse(prefix)?;
                if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_some() {
                    return Ok(Self::to(Arc::new(builder.build()?), prefix));
                }
                let plain: Arc<dyn ObjectStore> = Arc::new(builder.clone().build()?);
                let store = builder.with_checksum_algorithm(Checksum::CRC64NVME).build()?;
                Ok(Self { plain: Some(plain), ..Self::to(Arc::new(store), prefix) })
            }
        }
    }

    fn to(store: Arc<dyn ObjectStore>, prefix: ObjectPath) -> Self {
        let memory = Arc::new(Semaphore::new(IN_FLIGHT_MIB as usize));
        Self { store, plain: None, refuses_checksums: Arc::default(), memory, prefix, local: None }
    }

    /// Makes a staged file visible under `object`. Idempotent.
    pub async fn publish(&self, staged: &OutgoingFile, object: &str) -> Result<(), SinkError> {
        let to = self.path(object)?;
        let created = match &self.local {
            Some(_) => self.link(staged, &to).await,
            None => self.put(staged, &to, PutMode::Create).await,
        };
        match created {
            // Some servers give this answer for a conflict with a writer that then fails, so the answer alone
            // proves nothing.
            Err(SinkError::Store(
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
            )) => {
                self.compare(staged, &to).await?;
                self.sync_name(&to)
            }
            other => other,
        }
    }

    /// Replaces an object of `old_bytes` with a staged file in one step: a reader sees either the old one or the
    /// new one, complete. Idempotent.
    ///
    /// # Errors
    /// [`SinkError::Conflict`] if the existing object is neither the old nor the new one.
    pub async fn replace(
        &self,
        staged: &OutgoingFile,
        object: &str,
        old_bytes: u64,
    ) -> Result<(), SinkError> {
        let to = self.path(object)?;
        let found = match self.store.head(&to).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return self.publish(staged, object).await,
            Err(error) => return Err(error.into()),
        };
        if found.size == staged.bytes() && self.compare(staged, &to).await.is_ok() {
            return self.sync_name(&to);
        }
        if found.size != old_bytes {
            return Err(SinkError::Conflict { object: to.to_string() });
        }
        if let Some(store) = &self.local {
            off_thread(staged, OutgoingFile::verify).await?;
            return exchange(staged.path(), &store.path_to_filesystem(&to)?);
        }
        let e_tag = found.e_tag.clone();
        let version = UpdateVersion { e_tag: found.e_tag, version: None };
        match self.put(staged, &to, PutMode::Update(version)).await {
            Err(SinkError::Store(
                object_store::Error::Precondition { .. } | object_store::Error::NotImplemented { .. },
            )) if e_tag.is_some() && self.store.head(&to).await?.e_tag == e_tag => {
                // The object is unchanged, so the server does not support the condition.
                self.put(staged, &to, PutMode::Overwrite).await
            }
            put => put,
        }
    }

    /// Removes an object if it exists.
    pub async fn remove(&self, object: &str) -> Result<(), SinkError> {
        let to = self.path(object)?;
        match self.store.delete(&to).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match (&self.local, to.parts().count()) {
            (Some(store), 1..) => match store.path_to_filesystem(&to)?.parent() {
                // It may never have existed.
                Some(dir) if dir.is_dir() => Ok(RealStorage.sync_dir(dir)?),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// An earlier attempt may have stopped between creating a name and making it durable.
    fn sync_name(&self, to: &ObjectPath) -> Result<(), SinkError> {
        let Some(store) = &self.local else { return Ok(()) };
        let (file, top) = (store.path_to_filesystem(to)?, store.path_to_filesystem(&self.prefix)?);
        for dir in file.ancestors().skip(1).take_while(|dir| dir.starts_with(&top)) {
            RealStorage.sync_dir(dir)?;
        }
        Ok(())
    }

    async fn link(&self, staged: &OutgoingFile, to: &ObjectPath) -> Result<(), SinkError> {
        off_thread(staged, OutgoingFile::verify).await?;
        let staged_name = staged.path().display().to_string();
        let from = ObjectPath::from_absolute_path(staged.path())
            .map_err(|source| SinkError::Name { name: staged_name, source })?;
        match self.store.copy_if_not_exists(&from, to).await {
            Ok(()) => Ok(()),
            Err(error @ object_store::Error::AlreadyExists { .. }) => Err(error.into()),
            Err(error) => {
                // Another file system, or one without links: copy.
                tracing::debug!(error = %chain(&error), "cannot hard-link a staged file, copying it instead");
                self.put(staged, to, PutMode::Create).await
            }
        }
    }

    /// Sends a file, verified while it is read, and checks what the destination has then.
    async fn put(&self, staged: &OutgoingFile, to: &ObjectPath, mode: PutMode) -> Result<(), SinkError> {
        let mib = u32::try_from(staged.bytes().div_ceil(1 << 20)).unwrap_or(IN_FLIGHT_MIB);
        let room = self.memory.acquire_many(mib.min(IN_FLIGHT_MIB)).await;
        let _room = room.map_err(|_| SinkError::Stopping)?;
        let file = off_thread(staged, OutgoingFile::load).await?;
        let put = self.send(&file, to, mode).await?;
        self.confirm(staged, &file, to, put).await
    }

    /// Sends a file with its checksum; without, if the server refuses that.
    async fn send(
        &self,
        file: &Loaded,
        to: &ObjectPath,
        mode: PutMode,
    ) -> Result<PutResult, object_store::Error> {
        let options = || PutOptions { mode: mode.clone(), ..PutOptions::default() };
        let plain = match &self.plain {
            Some(plain) if self.refuses_checksums.load(Ordering::Relaxed) => {
                return plain.put_opts(to, file.payload.clone(), options()).await;
            }
            plain => plain,
        };
        let refused = match (self.store.put_opts(to, file.payload.clone(), options()).await, plain) {
            (Err(error), Some(plain)) if may_refuse_checksums(&error) => (error, plain),
            (put, _) => return put,
        };
        let (error, plain) = refused;
        let put = plain.put_opts(to, file.payload.clone(), options()).await;
        if !matches!(
            put,
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
        ) {
            return Err(error);
        }
        if !self.refuses_checksums.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = %chain(&error),
                "the destination refuses checksums in requests; sending files without, and comparing each object afterwards"
            );
        }
        put
    }

    /// Checks that an object that was just put is there, with the content of the file. Its size and its `ETag` say so if
    /// the `ETag` is the MD5 of the content; otherwise the object is read and compared.
    async fn confirm(
        &self,
        staged: &OutgoingFile,
        file: &Loaded,
        to: &ObjectPath,
        put: PutResult,
    ) -> Result<(), SinkError> {
        let object = || to.to_string();
        let found = match self.store.head(to).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(SinkError::NotStored { object: object() });
            }
            found => found?,
        };
        let is_md5 = |tag: &String| tag.trim_matches('"').eq_ignore_ascii_case(&file.md5);
        if found.size == staged.bytes() && found.e_tag.as_ref().is_some_and(is_md5) {
            return Ok(());
        }
        match self.compare(staged, to).await {
            Err(SinkError::Conflict { .. }) => {}
            other => return other,
        }
        // The server says by the `ETag` that this is what it made of the request, and nobody else's.
        if put.e_tag.is_some() && put.e_tag == found.e_tag {
            self.store.delete(to).await?;
        }
        Err(SinkError::StoredWrong { object: object() })
    }

    async fn compare(&self, staged: &OutgoingFile, to: &ObjectPath) -> Result<(), SinkError> {
        let ours = staged.open()?;
        let conflict = || SinkError::Conflict { object: to.to_string() };
        let found = self.store.get(to).await?;
        if found.meta.size != staged.bytes() {
            return Err(conflict());
        }
        let mut stream = found.into_stream();
        let mut at = 0;
        while let Some(piece) = stream.try_next().await? {
            if !ours.has(&piece, at)? {
                return Err(conflict());
            }
            at += piece.len() as u64;
        }
        if at == staged.bytes() { Ok(()) } else { Err(conflict()) }
    }

    /// An object's path in the file system, if the destination is local.
    pub fn local_path(&self, object: &str) -> Result<Option<PathBuf>, SinkError> {
        let path = self.path(object)?;
        Ok(self.local.as_ref().map(|store| store.path_to_filesystem(&path)).transpose()?)
    }

    /// The store and the full path of an object, to read it.
    pub fn object(&self, object: &str) -> Result<(Arc<dyn ObjectStore>, ObjectPath), SinkError> {
        Ok((Arc::clone(&self.store), self.path(object)?))
    }

    fn path(&self, object: &str) -> Result<ObjectPath, SinkError> {
        let name = if self.prefix.as_ref().is_empty() {
            object.to_owned()
        } else {
            format!("{}/{object}", self.prefix)
        };
        parse(&name)
    }
}

fn allow_http() -> AmazonS3ConfigKey {
    AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp)
}

fn parse(name: &str) -> Result<ObjectPath, SinkError> {
    ObjectPath::parse(name).map_err(|source| SinkError::Name { name: name.to_owned(), source })
}

/// Renames a staged file over an object in a directory. It gets a hidden name first, which readers of tables skip.
fn exchange(staged: &Path, to: &Path) -> Result<(), SinkError> {
    let name = to.file_name().expect("an object has a name").to_string_lossy();
    let hidden = to.with_file_name(format!(".{name}.new"));
    remove_if_there(&hidden)?;
    if std::fs::hard_link(staged, &hidden).is_err() {
        // Another file system, or one without links.
        std::fs::copy(staged, &hidden).context("copy staged file to", &hidden)?;
        File::open(&hidden).and_then(|file| file.sync_all()).context("sync", &hidden)?;
    }
    RealStorage.rename(&hidden, to)?;
    // If both were already the same file, the rename did nothing.
    remove_if_there(&hidden)?;
    match to.parent() {
        Some(dir) => Ok(RealStorage.sync_dir(dir)?),
        None => Ok(()),
    }
}

fn remove_if_there(path: &Path) -> Result<(), IoError> {
    match RealStorage.remove(path) {
        Err(error) if error.source.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a server may have refused a request because of its checksum, and not because the checksum is wrong. Whether
/// it did shows in the answer to the same request without one.
fn may_refuse_checksums(error: &object_store::Error) -> bool {
    let text = chain(error);
    let is_refused = matches!(error, object_store::Error::NotImplemented { .. })
        || ["400 Bad Request", "501 Not Implemented"].iter().any(|status| text.contains(status));
    is_refused && !["BadDigest", "InvalidDigest", "Mismatch"].iter().any(|code| text.contains(code))
}

/// Reads a staged file where that may block.
async fn off_thread<T: Send + 'static>(
    staged: &OutgoingFile,
    read: impl FnOnce(&OutgoingFile) -> Result<T, StagedError> + Send + 'static,
) -> Result<T, SinkError> {
    let staged = staged.clone();
    let done = tokio::task::spawn_blocking(move || read(&staged)).await;
    // It fails only when the runtime ends.
    Ok(done.map_err(|_| SinkError::Stopping)??)
}
