//! json-proxy LISTEN_PORT UPSTREAM_PORT: a reverse proxy on one thread that parses each request and answer as JSON
//! into a tree and writes it out again. It stands for a gateway in a fast language that works on trees.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::client::legacy::{connect::HttpConnector, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;

type Failure = Box<dyn Error + Send + Sync>;

fn rewrite(body: &[u8]) -> Result<Bytes, Failure> {
    let tree: serde_json::Value = serde_json::from_slice(body)?;
    Ok(Bytes::from(serde_json::to_vec(&tree)?))
}

async fn relay(
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: u16,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let (mut head, body) = request.into_parts();
    let body = rewrite(&body.collect().await?.to_bytes())?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("http://127.0.0.1:{upstream}{path}").parse()?;
    head.headers.remove(HOST);
    head.headers.remove(CONTENT_LENGTH);
    let answer = client.request(Request::from_parts(head, Full::new(body))).await?;
    let status = answer.status();
    let body = rewrite(&answer.into_body().collect().await?.to_bytes())?;
    Ok(Response::builder().status(status).header(CONTENT_TYPE, "application/json").body(Full::new(body))?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>());
    let listen = ports.next().ok_or("usage: json-proxy LISTEN_PORT UPSTREAM_PORT")??;
    let upstream = ports.next().ok_or("usage: json-proxy LISTEN_PORT UPSTREAM_PORT")??;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", listen)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| relay(client.clone(), upstream, request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
