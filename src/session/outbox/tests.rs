use super::*;
use crate::message::{ELSEWHERE, MessageRef, NEVER, SubscriptionIds, Via};

fn delivery(qos: QoS, expires_at: Millis) -> Delivery {
    let message = MessageRef {
        topic: "t",
        payload: b"p",
        properties: b"",
        expires_at,
        from: ELSEWHERE,
        qos,
        retain: false,
        snappy: false,
    };
    Delivery {
        message: message.to_message(),
        ids: SubscriptionIds::None,
        via: None,
        qos,
        retain: false,
        body: 0,
    }
}

fn admitted(outbox: &mut Outbox, qos: QoS) -> PacketId {
    let number = outbox.number();
    outbox.admit(number, delivery(qos, NEVER))
}

fn outbox() -> Outbox {
    let mut outbox = Outbox::default();
    outbox.start_at(1, false);
    outbox
}

fn pushed(outbox: &mut Outbox, delivery: Delivery) {
    let (number, expires_at) = (outbox.number(), delivery.message.expires_at());
    outbox.push(number, delivery, expires_at, (false, true));
}

#[test]
fn ids_run_in_sequence_and_skip_zero() {
    let mut outbox = Outbox::default();
    outbox.start_at(65_534, false);
    let ids: Vec<u16> = (0..4).map(|_| admitted(&mut outbox, QoS::AtLeastOnce).get()).collect();
    assert_eq!(ids, [65_534, 65_535, 1, 2]);
    for id in [1, 65_535, 2, 65_534] {
        assert!(matches!(outbox.puback(PacketId::new(id).unwrap()), Acknowledged::Complete(_)), "{id}");
        assert!(matches!(outbox.puback(PacketId::new(id).unwrap()), Acknowledged::Unknown), "{id} twice");
    }
    assert!(outbox.is_empty());
    assert_eq!(admitted(&mut outbox, QoS::AtLeastOnce).get(), 3);
}

#[test]
fn qos_2_is_counted_until_pubcomp_and_answers_a_second_pubrec() {
    let mut outbox = outbox();
    let id = admitted(&mut outbox, QoS::ExactlyOnce);
    assert!(matches!(outbox.puback(id), Acknowledged::Unknown), "PUBACK does not end QoS 2");
    assert!(matches!(outbox.pubcomp(id), Acknowledged::Unknown), "PUBCOMP before PUBREC");
    assert!(matches!(outbox.pubrec(id, false), Acknowledged::Release(Some(_))));
    assert_eq!(outbox.in_flight(), 1);
    assert!(matches!(outbox.pubrec(id, false), Acknowledged::Release(None)));
    assert!(matches!(outbox.pubcomp(id), Acknowledged::Finished(_)));
    assert!(outbox.is_empty());
}

#[test]
fn a_refusing_pubrec_ends_the_delivery() {
    let mut outbox = outbox();
    let id = admitted(&mut outbox, QoS::ExactlyOnce);
    assert!(matches!(outbox.pubrec(id, true), Acknowledged::Complete(_)));
    assert!(outbox.is_empty());
}

fn resent(outbox: &mut Outbox, receive_maximum: u16) -> Vec<(u16, bool)> {
    let mut sent = Vec::new();
    while let Some((id, stage)) = outbox.next_resend(receive_maximum) {
        sent.push((id.get(), matches!(stage, Stage::Released)));
    }
    sent
}

#[test]
fn a_resumed_session_sends_again_in_order_with_the_same_ids() {
    let mut outbox = outbox();
    let ids: Vec<PacketId> = (0..5).map(|_| admitted(&mut outbox, QoS::ExactlyOnce)).collect();
    let _ = outbox.pubrec(ids[1], false);
    let _ = outbox.pubrec(ids[2], false);
    let _ = outbox.pubcomp(ids[2]);
    outbox.resume();
    assert_eq!(resent(&mut outbox, 10), [(1, false), (2, true), (4, false), (5, false)]);
    assert!(outbox.open(10));
}

#[test]
fn sending_again_keeps_to_the_new_receive_maximum() {
    let mut outbox = outbox();
    let ids: Vec<PacketId> = (0..4).map(|_| admitted(&mut outbox, QoS::AtLeastOnce)).collect();
    pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
    outbox.resume();
    assert_eq!(resent(&mut outbox, 2), [(1, false), (2, false)]);
    assert!(outbox.next_waiting(2).is_none(), "older packets have to go first");
    let _ = outbox.puback(ids[3]);
    assert_eq!(outbox.in_flight(), 2, "an acknowledgement for an earlier connection's packet frees nothing");
    let _ = outbox.puback(ids[0]);
    assert_eq!(resent(&mut outbox, 2), [(3, false)]);
    let _ = outbox.puback(ids[1]);
    assert!(outbox.next_resend(2).is_none());
    assert!(outbox.next_waiting(2).is_some());
}

#[test]
fn receive_maximum_holds_deliveries_back() {
    let mut outbox = outbox();
    assert!(outbox.open(1));
    let id = admitted(&mut outbox, QoS::AtLeastOnce);
    assert!(!outbox.open(1));
    pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
    assert!(outbox.next_waiting(1).is_none());
    let _ = outbox.puback(id);
    assert!(!outbox.open(1), "an older delivery waits");
    assert!(outbox.next_waiting(1).is_some());
    assert_eq!(outbox.waiting_bytes(), 0);
}

#[test]
fn shared_deliveries_go_back_but_not_qos_2_in_flight() {
    let via = Some(Via { home: 0, group: 1, member: 0, stay: 1, number: std::num::NonZeroU64::MIN });
    let mut outbox = outbox();
    for (qos, via) in
        [(QoS::AtLeastOnce, via), (QoS::ExactlyOnce, via), (QoS::AtLeastOnce, None), (QoS::AtLeastOnce, via)]
    {
        let number = outbox.number();
        outbox.admit(number, Delivery { via, ..delivery(qos, NEVER) });
    }
    pushed(&mut outbox, Delivery { via, ..delivery(QoS::ExactlyOnce, NEVER) });
    pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
    let taken = outbox.take_shared(false, |d| d.via == via);
    assert_eq!(taken.len(), 3);
    assert_eq!(outbox.in_flight(), 2);
    assert_eq!(outbox.waiting(), 1);
    outbox.resume();
    assert_eq!(resent(&mut outbox, 9), [(2, false), (3, false)]);
}

#[test]
fn what_a_connected_client_was_sent_stays_its_own() {
    let mut outbox = outbox();
    let ids = [admitted(&mut outbox, QoS::AtLeastOnce), admitted(&mut outbox, QoS::AtLeastOnce)];
    pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
    assert_eq!(outbox.take_shared(true, |_| true).len(), 1, "what waits");
    assert_eq!(outbox.in_flight(), 2);
    assert!(matches!(outbox.puback(ids[0]), Acknowledged::Complete(_)));
    outbox.resume();
    assert_eq!(resent(&mut outbox, 9), [(2, false)]);
}

#[test]
fn a_delivery_that_cannot_be_sent_again_frees_its_room() {
    let mut outbox = outbox();
    admitted(&mut outbox, QoS::ExactlyOnce);
    admitted(&mut outbox, QoS::AtLeastOnce);
    outbox.resume();
    let id = outbox.next_resend(1).map(|(id, _)| id).unwrap();
    assert!(outbox.abandon(id).is_some());
    assert_eq!(resent(&mut outbox, 1), [(2, false)]);
}

#[test]
fn expired_deliveries_leave_the_queue() {
    let mut outbox = outbox();
    for at in [5, NEVER, 7] {
        pushed(&mut outbox, delivery(QoS::AtLeastOnce, at));
    }
    let mut shown = 0;
    assert_eq!(outbox.drop_expired(6, |_| shown += 1), 1);
    assert_eq!(shown, 1);
    assert_eq!(outbox.waiting(), 2);
    assert_eq!(outbox.waiting_bytes(), 4);
}

#[test]
fn ids_follow_from_numbers_over_gaps_and_a_restart() {
    let mut outbox = outbox();
    let first = admitted(&mut outbox, QoS::AtLeastOnce);
    (0..3).for_each(|_| pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER)));
    assert_eq!(outbox.pop_waiting().unwrap().number, 2);
    assert_eq!(outbox.pop_waiting().unwrap().number, 3);
    let Next { number, delivery: fourth, .. } = outbox.next_waiting(9).unwrap();
    assert_eq!(outbox.admit(number, fourth).get(), 4);
    assert!(matches!(outbox.puback(PacketId::new(3).unwrap()), Acknowledged::Unknown));
    assert!(matches!(outbox.puback(PacketId::new(4).unwrap()), Acknowledged::Complete(_)));
    assert!(matches!(outbox.puback(first), Acknowledged::Complete(_)));
    assert!(outbox.is_empty());

    let mut restored = Outbox::default();
    restored.start_at(1, true);
    let away = delivery(QoS::ExactlyOnce, NEVER).away();
    restored.restore(70_000, Some((away, NEVER)));
    restored.restore(70_002, None);
    restored.restore(70_003, Some((away, NEVER)));
    restored.resume();
    assert!(resent(&mut restored, 9).is_empty(), "the first is still in the store");
    fetch(&mut restored, QoS::ExactlyOnce);
    let id = |number: u64| ((number - 1) % 65_535) as u16 + 1;
    assert_eq!(resent(&mut restored, 9), [(id(70_000), false), (id(70_002), true)]);
    let last = restored.next_waiting(9).unwrap();
    assert_eq!((last.number, last.again), (70_003, true));
    assert_eq!(restored.admit(last.number, last.delivery).get(), id(70_003));
    assert_eq!(restored.number(), 70_004);
}

/// Gives an outbox all that it wants from the store; the numbers.
fn fetch(outbox: &mut Outbox, qos: QoS) -> Vec<Number> {
    let wanted: Vec<Number> = outbox.wanted().into_iter().map(|(number, _)| number).collect();
    assert!(wanted.is_empty() || outbox.wanted().is_empty(), "asked for once");
    outbox.answered();
    for number in &wanted {
        assert!(outbox.arrived(*number, Some(delivery(qos, NEVER))).is_none());
    }
    wanted
}

#[test]
fn a_long_backlog_is_fetched_some_at_a_time_and_in_order() {
    let mut outbox = outbox();
    let total = 3 * SOME as Number;
    for _ in 0..total {
        let number = outbox.number();
        outbox.push(number, delivery(QoS::AtLeastOnce, NEVER), NEVER, (true, true));
    }
    assert_eq!((outbox.waiting(), outbox.waiting_bytes()), (total as usize, 2 * total as usize));
    let mut expected = 1;
    while expected <= total {
        let mut took = 0;
        while let Some(next) = outbox.next_waiting(u16::MAX) {
            assert_eq!(next.number, expected);
            let id = outbox.admit(next.number, next.delivery);
            assert!(matches!(outbox.puback(id), Acknowledged::Complete(_)));
            (expected, took) = (expected + 1, took + 1);
        }
        assert!(took <= SOME);
        fetch(&mut outbox, QoS::AtLeastOnce);
    }
    assert!(outbox.is_empty() && outbox.waiting_bytes() == 0);
}

#[test]
fn what_is_fetched_at_once_is_bounded_in_bytes_but_never_nothing() {
    let mut outbox = outbox();
    for weight in [SOME_BYTES as u32 + 1, SOME_BYTES as u32, 1, 1] {
        let number = outbox.number();
        outbox.restore(number, Some((Away { body: 0, weight, qos: QoS::AtLeastOnce }, NEVER)));
    }
    assert_eq!(fetch(&mut outbox, QoS::AtLeastOnce), [1]);
    assert!(outbox.next_waiting(9).is_some());
    assert_eq!(fetch(&mut outbox, QoS::AtLeastOnce), [2]);
    assert!(outbox.next_waiting(9).is_some());
    assert_eq!(fetch(&mut outbox, QoS::AtLeastOnce), [3, 4]);
}

#[test]
fn what_an_offline_client_is_owed_leaves_memory_and_comes_back() {
    let mut outbox = outbox();
    let via = Some(Via { home: 0, group: 1, member: 0, stay: 1, number: std::num::NonZeroU64::MIN });
    let ids = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce].map(|qos| admitted(&mut outbox, qos));
    let number = outbox.number();
    outbox.push(number, delivery(QoS::AtLeastOnce, NEVER), NEVER, (true, true));
    let number = outbox.number();
    outbox.push(number, Delivery { via, ..delivery(QoS::AtLeastOnce, NEVER) }, NEVER, (false, true));
    outbox.set_aside(|delivery| delivery.via.is_none());
    assert_eq!(outbox.iter().count(), 5);
    outbox.resume();
    assert!(resent(&mut outbox, 9).is_empty() && outbox.next_waiting(9).is_none());
    // An acknowledgement of what was sent before the client left counts.
    assert!(matches!(outbox.puback(ids[2]), Acknowledged::Complete(Settled { number: 3, .. })));
    let wanted: Vec<Number> = outbox.wanted().into_iter().map(|(number, _)| number).collect();
    assert_eq!(wanted, [1, 2, 4]);
    outbox.answered();
    assert!(outbox.arrived(1, Some(delivery(QoS::AtLeastOnce, NEVER))).is_none());
    let lost = outbox.arrived(2, None).unwrap();
    assert_eq!((lost.number, lost.qos), (2, QoS::ExactlyOnce));
    assert!(outbox.arrived(4, Some(delivery(QoS::AtLeastOnce, NEVER))).is_none());
    assert_eq!(resent(&mut outbox, 9), [(1, false)]);
    assert_eq!(outbox.next_waiting(9).unwrap().number, 4);
    assert_eq!(outbox.next_waiting(9).unwrap().number, 5);
}

#[test]
fn qos_2_waits_until_its_number_is_certain() {
    let mut outbox = Outbox::default();
    outbox.start_at(1, true);
    pushed(&mut outbox, delivery(QoS::AtLeastOnce, NEVER));
    pushed(&mut outbox, delivery(QoS::ExactlyOnce, NEVER));
    assert!(outbox.next_waiting(9).is_some());
    assert!(outbox.next_waiting(9).is_none());
    outbox.assure(2);
    assert!(outbox.next_waiting(9).is_some());
}

#[test]
fn a_full_turn_of_ids_never_meets_itself() {
    let mut outbox = outbox();
    let first = admitted(&mut outbox, QoS::AtLeastOnce);
    let mut seen = 0;
    while outbox.open(u16::MAX) {
        let id = admitted(&mut outbox, QoS::AtLeastOnce);
        assert_ne!(id, first);
        let _ = outbox.puback(id);
        seen += 1;
    }
    assert_eq!(seen, MAX_SPAN - 1);
    let _ = outbox.puback(first);
    assert!(outbox.open(1));
}
