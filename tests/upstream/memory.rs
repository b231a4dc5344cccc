//! Bodies of any size pass with flat memory. 256 MiB each way; 1 GiB with `PENSTOCK_TEST_LONG` set.

use bytes::Bytes;

use crate::origin::Origin;
use crate::proxy::{client, edge};
use crate::rig::{OK, is_long, run};

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib << 10
}

fn size() -> usize {
    if is_long() { 1 << 30 } else { 256 << 20 }
}

/// Other tests of this process run beside this one, but none of them holds so much.
const GROWTH_MAX: usize = 64 << 20;

#[test]
fn answers_stream_with_flat_memory() {
    for is_chunked in [false, true] {
        run(|| async move {
            let size = size();
            let origin = Origin::new(move |mut server| async move {
                server.request().await;
                let chunk = Bytes::from(vec![b'x'; 1 << 16]);
                if is_chunked {
                    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                } else {
                    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
                }
                for _ in 0..size >> 16 {
                    if is_chunked {
                        server.send("10000\r\n").await;
                    }
                    server.send(&chunk).await;
                    if is_chunked {
                        server.send("\r\n").await;
                    }
                }
                if is_chunked {
                    server.send("0\r\n\r\n").await;
                }
            })
            .await;
            let edge = edge(&[origin.address.to_string()], "");
            let mut client = client(&edge).await;
            let before = resident();
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client.head().await;
            let (mut read, mut most) = (0, 0);
            while client.read_more().await {
                read += client.discard();
                most = most.max(resident().saturating_sub(before));
            }
            read += client.discard();
            assert!(read >= size, "{read} bytes came");
            assert!(most < GROWTH_MAX, "{most} bytes more were resident");
        });
    }
}

#[test]
fn requests_stream_with_flat_memory() {
    for is_chunked in [false, true] {
        run(|| async move {
            let size = size();
            let origin = Origin::new(move |mut server| async move {
                server.head().await;
                let mut read = server.discard();
                let end = if is_chunked { usize::MAX } else { size };
                let mut last = Vec::new();
                while read < end && !last.ends_with(b"\r\n0\r\n\r\n") {
                    let Some(bytes) = server.some().await else { break };
                    read += bytes.len();
                    last.extend_from_slice(&bytes);
                    let from = last.len().saturating_sub(16);
                    last.drain(..from);
                }
                assert!(read >= size, "{read} bytes came");
                server.send(OK).await;
                server.gone().await;
            })
            .await;
            let edge = edge(&[origin.address.to_string()], "");
            let mut client = client(&edge).await;
            let before = resident();
            client.send(if is_chunked {
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
            } else {
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")
            });
            let chunk = vec![b'x'; 1 << 16];
            let framed = [b"10000\r\n", &chunk[..], b"\r\n"].concat();
            let mut most = 0;
            for _ in 0..size >> 16 {
                client.send(if is_chunked { &framed } else { &chunk });
                crate::rig::until(|| client.all_sent()).await;
                most = most.max(resident().saturating_sub(before));
            }
            if is_chunked {
                client.send("0\r\n\r\n");
            }
            assert_eq!(client.response().await.text(), "ok");
            assert!(most < GROWTH_MAX, "{most} bytes more were resident");
        });
    }
}
