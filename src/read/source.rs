//! A Parquet file to read: on a local disk, or an object in a bucket.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes to read at the end of a file; they usually hold all of its metadata.
const PREFETCH_BYTES: usize = 64 * 1024;

/// Clones are cheap. A local file is read on the calling thread.
#[derive(Clone)]
pub enum FileSource {
    Local { file: Arc<File>, bytes: u64 },
    Object { store: Arc<dyn ObjectStore>, path: ObjectPath, bytes: u64 },
}

impl FileSource {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self::Local { bytes: file.metadata()?.len(), file: Arc::new(file) })
    }

    pub async fn of_object(
        store: Arc<dyn ObjectStore>,
        path: ObjectPath,
    ) -> Result<Self, object_store::Error> {
        let bytes = store.head(&path).await?.size;
        Ok(Self::Object { store, path, bytes })
    }

    fn bytes(&self) -> u64 {
        let (Self::Local { bytes, .. } | Self::Object { bytes, .. }) = self;
        *bytes
    }
}

fn read(file: &File, range: &Range<u64>) -> Result<Bytes, ParquetError> {
    let len = usize::try_from(range.end.saturating_sub(range.start));
    let mut bytes = vec![0; len.map_err(|error| ParquetError::External(Box::new(error)))?];
    file.read_exact_at(&mut bytes, range.start).map_err(|error| ParquetError::External(Box::new(error)))?;
    Ok(bytes.into())
}

impl AsyncFileReader for FileSource {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        match self {
            Self::Local { file, .. } => std::future::ready(read(file, &range)).boxed(),
            Self::Object { store, path, .. } => {
                let bytes = async move { store.get_range(path, range).await };
                bytes.map_err(|error| ParquetError::External(Box::new(error))).boxed()
            }
        }
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        match self {
            Self::Local { file, .. } => {
                std::future::ready(ranges.iter().map(|range| read(file, range)).collect()).boxed()
            }
            // Adjacent ranges are merged into one request.
            Self::Object { store, path, .. } => {
                let bytes = async move { store.get_ranges(path, &ranges).await };
                bytes.map_err(|error| ParquetError::External(Box::new(error))).boxed()
            }
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let bytes = self.bytes();
        let policy = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::offset_index_policy);
        let reader = ParquetMetaDataReader::new()
            .with_page_index_policy(policy)
            .with_prefetch_hint(Some(PREFETCH_BYTES));
        async move { reader.load_and_finish(self, bytes).await.map(Arc::new) }.boxed()
    }
}
