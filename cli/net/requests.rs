//! Counts the requests of each connection, from the head to the end of the answer's body.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};

use super::connections::{Busy, Connections};

/// The layer that counts.
#[derive(Debug, Clone)]
pub struct Counting(pub Connections);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, connections: self.0.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    connections: Connections,
}

impl<S, Q, B> Service<http::Request<Q>> for Counted<S>
where
    S: Service<http::Request<Q>, Response = http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Answer<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        let (plain, tls) = (request.extensions().get(), request.extensions().get());
        let info: Option<&TcpConnectInfo> = plain.or(tls.map(TlsConnectInfo::get_ref));
        let busy = info.and_then(|info| info.remote_addr()).map(|peer| self.connections.begin(peer));
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Answer { body, _busy: busy })) })
    }
}

/// The body of an answer: with its end the request is over.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    _busy: Option<Busy>,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
