//! An HTTP egress proxy (`CONNECT`, RFC 9110 9.3.6) that leads to this Azure and nowhere else: with
//! `HTTPS_PROXY` and the simulator's CA, any unmodified client reaches it under Azure's own names. IMDS is
//! never behind it.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    State, Unanswered,
    answer::Answer,
    faults::Stage,
    listeners::{Upstreams, Wire},
    observation::Outcome,
    request::Request,
    serve::{Origin, act_first, delay, pick},
    world::World,
};

/// A request head is short; a client that sends more means something else.
const LARGEST_HEAD_BYTES: usize = 8_192;

/// A client that has not sent its request by then never will.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Serves one connection: one request, then a tunnel or a refusal.
pub(crate) async fn tunnel(world: &World, origin: Origin, upstreams: Upstreams, mut client: TcpStream) {
    let Ok(Ok(head)) = timeout(HEAD_TIMEOUT, read_head(&mut client)).await else {
        return;
    };
    let Some((method, target)) = request_line(&head) else {
        return;
    };
    let request = as_request(origin, method, target);
    let arrived = world.now(origin.service);
    let length = u64::try_from(head.len()).unwrap_or(u64::MAX);
    let (call, _) = world
        .observation
        .begin(&request, origin.connection, length, arrived);
    let picked = pick(world, &[Stage::Request], &request, &request.subject());
    delay(world, origin.service, picked.as_ref()).await;
    let early = match &picked {
        Some(picked) => act_first(world, picked, origin.service, &call).await,
        None => Ok(None),
    };
    let destination = match early {
        Ok(Some(answer)) => Err(Box::new(answer)),
        Ok(None) => route(&request, &world.state(), upstreams),
        Err(reason) => {
            if reason == Unanswered::Reset {
                client.reset_when_dropped();
            }
            call.finish(&Outcome {
                fault: picked.map(|picked| picked.id),
                ..Outcome::default()
            });
            return;
        }
    };
    let upstream = match destination {
        Ok(address) => TcpStream::connect(address).await.map_err(|error| {
            let text = format!("nothing answers at {address}: {error}");
            Box::new(Answer::text(StatusCode::BAD_GATEWAY, text))
        }),
        Err(answer) => Err(answer),
    };
    let status = upstream
        .as_ref()
        .map_or_else(|answer| answer.status, |_| StatusCode::OK);
    let trace = upstream
        .as_ref()
        .map_or_else(|answer| answer.trace.clone(), |_| vec!["tunnel open".to_owned()]);
    call.finish(&Outcome {
        status: Some(status.as_u16()),
        trace,
        fault: picked.map(|picked| picked.id),
        ..Outcome::default()
    });
    let ended = match upstream {
        Ok(upstream) => carry(client, upstream).await,
        Err(answer) => refuse(client, &answer).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, target = request.authority, "tunnel ended");
    }
}

/// Where the target is.
fn route(request: &Request, state: &State, upstreams: Upstreams) -> Result<SocketAddr, Box<Answer>> {
    if request.method != Method::CONNECT {
        let text = "this proxy only opens tunnels (CONNECT)\n";
        return Err(Answer::text(StatusCode::METHOD_NOT_ALLOWED, text)
            .because("no CONNECT")
            .into());
    }
    if state.cloud_of_authority(&request.host).is_some() {
        return Ok(upstreams.entra);
    }
    if state.registry(&request.host).is_some() {
        return Ok(upstreams.acr);
    }
    let text = format!(
        "{} is no authority and no registry of this simulator\n",
        request.host
    );
    Err(Answer::text(StatusCode::FORBIDDEN, text)
        .because("unknown host")
        .into())
}

async fn carry(mut client: TcpStream, mut upstream: TcpStream) -> io::Result<()> {
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    let ended = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    if ended
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    {
        // What is behind the tunnel is what a test made fail; it has to come through.
        client.reset_when_dropped();
    }
    ended.map(drop)
}

async fn refuse(mut client: TcpStream, answer: &Answer) -> io::Result<()> {
    let status = answer.status;
    let mut head = format!(
        "HTTP/1.1 {} {}\r\ncontent-length: {}\r\nconnection: close\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head = format!("{head}{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    client.write_all(format!("{head}\r\n").as_bytes()).await?;
    client.write_all(&answer.body).await?;
    client.shutdown().await
}

/// Up to the empty line. Nothing may follow it: the client waits for the answer before it sends more.
async fn read_head(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(END_OF_HEAD) {
        if head.len() >= LARGEST_HEAD_BYTES || client.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

/// Method and target of `CONNECT host:port HTTP/1.1`.
fn request_line(head: &[u8]) -> Option<(Method, Uri)> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn as_request(origin: Origin, method: Method, target: Uri) -> Request {
    let mut head = http::Request::new(()).into_parts().0;
    head.method = method;
    head.uri = target;
    Request::new(origin.service, &head, &Bytes::new(), origin.peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_line_is_taken_apart() {
        let (method, target) =
            request_line(b"CONNECT demo.azurecr.io:443 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(
            (method, target.to_string().as_str()),
            (Method::CONNECT, "demo.azurecr.io:443")
        );
        assert!(request_line(b"\r\n\r\n").is_none());
    }
}
