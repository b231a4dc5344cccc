//! Frames that ask for nothing, in any number: rows D01 to D10 of the attack table. The connection ends
//! with ENHANCE_YOUR_CALM, and nothing that was asked for behind the flood is done.

use penstock::outcome::CloseReason;

use super::client::*;
use super::rig::{Rig, run};

const CALM: u32 = 11;

fn word(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn is_ended_by(name: &str, flood: Vec<u8>, asked_max: usize) {
    run(async |rig: Rig| {
        let mut client = rig.greeted().await;
        client.send(flood).await;
        let code = client.goodbye().await;
        assert_eq!(code, Some(CALM), "{name}");
        let asked = rig.told.asked.get();
        assert!(asked <= asked_max, "{name}: {asked} were asked");
        assert_eq!(client.reason().await, CloseReason::Flood, "{name}");
    });
}

#[test]
fn floods_end_the_connection() {
    let reset =
        |n: u32| [get(1 + 2 * n, "/wait"), frame(RST_STREAM, 0, 1 + 2 * n, &word(8))].concat();
    let streams = |n: u32| (0..n).map(|n| 1 + 2 * n);
    let empty = |flags, content: &[u8]| {
        let begin = frame(HEADERS, EH, 1, &block(&POST));
        [begin, frame(DATA, flags, 1, content).repeat(10_000)].concat()
    };
    is_ended_by("D01 rapid reset", (0..10_000).flat_map(reset).collect(), 64);
    is_ended_by(
        "D02 requests that break the protocol",
        streams(10_000).flat_map(|n| frame(HEADERS, EH | ES, n, &block(&[("a", "b")]))).collect(),
        0,
    );
    is_ended_by(
        "D02 windows that overflow",
        streams(10_000)
            .flat_map(|n| {
                let more = frame(WINDOW_UPDATE, 0, n, &word(i32::MAX as u32));
                [get(n, "/wait"), more].concat()
            })
            .collect(),
        300,
    );
    let open = frame(HEADERS, ES, 1, &block(&GET));
    is_ended_by(
        "D03 CONTINUATION without an end",
        [open.clone(), frame(CONTINUATION, 0, 1, &block(&[("a", "b")])).repeat(1_000)].concat(),
        0,
    );
    is_ended_by(
        "D03 empty CONTINUATION",
        [open, frame(CONTINUATION, 0, 1, &[]).repeat(1_000)].concat(),
        0,
    );
    is_ended_by("D04 SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(10_000), 0);
    is_ended_by("D04 PING", frame(PING, 0, 0, &[0; 8]).repeat(10_000), 0);
    is_ended_by("D05 empty DATA", empty(0, &[]), 1);
    is_ended_by("D05 DATA of padding", empty(PAD, &[3, 0, 0, 0]), 1);
    is_ended_by("D06 PRIORITY", frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 7]).repeat(10_000), 0);
    is_ended_by("D06 WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &word(1)).repeat(10_000), 0);
    is_ended_by("D06 unknown frames", frame(0xee, 0, 0, &[]).repeat(10_000), 0);
}

#[test]
fn an_unread_connection_is_bounded_too() {
    // The answers to all the pings have nowhere to go.
    run(async |rig| {
        let mut client = rig.pipe(4 * 1024);
        client.greet(&[]).await;
        client.send(frame(PING, 0, 0, &[0; 8]).repeat(101)).await;
        assert_eq!(client.goodbye().await, Some(CALM));
    });
}

#[test]
fn references_to_a_long_field_are_bounded() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        // One field of 3 KiB into the table, then a thousand bytes that name it.
        let mut first = with(&GET, &[]);
        first.extend_from_slice(&[0x40, 1, b'x']);
        integer(3_000, 7, 0, &mut first);
        first.extend(std::iter::repeat_n(b'y', 3_000));
        client.send(frame(HEADERS, ES | EH, 1, &first)).await;
        assert_eq!(client.response(1).await.status, 200);
        let mut bomb = with(&GET, &[]);
        bomb.extend(std::iter::repeat_n(0xbe, 1_000));
        client.send(frame(HEADERS, ES | EH, 3, &bomb)).await;
        assert_eq!(client.goodbye().await, Some(CALM));
        assert_eq!(rig.told.asked.get(), 1);
    });
}

#[test]
fn changes_of_the_table_are_bounded_by_their_bytes() {
    // D08: as many as one frame holds, between nothing and the largest table, cost what the frame
    // costs. Nothing but the head is bounded, and what comes behind it is served.
    run(async |rig| {
        let mut client = rig.greeted().await;
        let changes = [0x20, 0x3f, 0xe1, 0x1f].repeat(4_000);
        for n in 0..50 {
            let block = [&changes[..], &with(&GET, &[])].concat();
            client.send(frame(HEADERS, ES | EH, 1 + 2 * n, &block)).await;
            assert_eq!(client.response(1 + 2 * n).await.status, 200);
        }
        // In frames of their own they are CONTINUATION, of which a head may have so many.
        client.send(frame(HEADERS, ES, 101, &changes)).await;
        client.send(frame(CONTINUATION, 0, 101, &changes).repeat(100)).await;
        assert_eq!(client.goodbye().await, Some(CALM));
        assert_eq!(rig.told.asked.get(), 50);
    });
}

#[test]
fn an_ordinary_client_is_no_flood() {
    // A long download with an update for every frame, and a page with a hundred requests.
    run(async |rig| {
        let mut client = rig.greeted().await;
        for n in 0..20 {
            client.send(get(1 + 2 * n, "/big")).await;
            assert_eq!(client.response(1 + 2 * n).await.status, 200);
        }
        let streams: Vec<u32> = (0..60).map(|n| 101 + 2 * n).collect();
        client.send(streams.iter().flat_map(|stream| get(*stream, "/")).collect::<Vec<_>>()).await;
        assert_eq!(client.responses(&streams).await.len(), 60);
        assert_eq!(client.close().await, CloseReason::ClientClosed);
    });
}
