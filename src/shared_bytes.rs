//! Bytes that many connections send.

use std::{fmt, ops::Deref, sync::Arc};

/// Bytes that are sent without being copied, by one connection or by many: [`Context::write_shared`](crate::Context::write_shared).
/// A clone costs a counter.
///
/// ```
/// use std::sync::Arc;
/// use echoloop::SharedBytes;
///
/// let news = SharedBytes::from(Arc::<str>::from("breaking"));
/// assert_eq!(&news.clone()[..5], b"break");
/// let _: SharedBytes = vec![1, 2, 3].into();
/// let _: SharedBytes = b"constant".into();
/// ```
#[derive(Clone)]
pub struct SharedBytes(Owner);

#[derive(Clone)]
enum Owner {
    Slice(Arc<[u8]>),
    Vector(Arc<Vec<u8>>),
    Static(&'static [u8]),
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Owner::Slice(bytes) => bytes,
            Owner::Vector(bytes) => bytes,
            Owner::Static(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Arc<[u8]>> for SharedBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Owner::Slice(bytes))
    }
}

impl From<Arc<str>> for SharedBytes {
    fn from(text: Arc<str>) -> Self {
        Self(Owner::Slice(text.into()))
    }
}

/// Nothing is copied.
impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Owner::Vector(Arc::new(bytes)))
    }
}

impl From<String> for SharedBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&'static [u8]> for SharedBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Owner::Static(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for SharedBytes {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self(Owner::Static(bytes))
    }
}

impl From<&'static str> for SharedBytes {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}
