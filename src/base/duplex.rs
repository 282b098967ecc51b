//! A stream of bytes both ways, whatever carries it.
//!
//! HTTP is compiled anew for each type of stream that it is spoken on, some fifty kilobytes each time: it is spoken on boxed ones.

use tokio::io::{AsyncRead, AsyncWrite};

/// What is read and written.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}
