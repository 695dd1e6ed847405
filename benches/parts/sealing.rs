//! What it costs to protect messages of a GSSAPI session, and to open them: enctypes by number.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ringsocks::auth::cfx::{Cfx, Exported, SEED_BYTES};
use ringsocks::proto::gssapi::Seal;

const SIZES: [usize; 4] = [64, 1400, 16_384, 60_000];
const ENCTYPES: [(u32, usize); 4] = [(17, 16), (18, 32), (19, 16), (20, 32)];

pub(super) fn bench(criterion: &mut Criterion) {
    for (enctype, key_bytes) in ENCTYPES {
        let key = &[0x5a; 32][..key_bytes];
        let mut group = criterion.benchmark_group(format!("sealing, {enctype}"));
        for (protection, confidential) in [("integrity", false), ("confidentiality", true)] {
            for size in SIZES {
                let (mut client, mut gateway) = (end(true, key, enctype), end(false, key, enctype));
                let message = vec![0x5a; size];
                let mut token = Vec::new();
                group.throughput(Throughput::Bytes(size as u64));
                group.bench_function(format!("wrap, {protection}, {size} B"), |it| {
                    it.iter(|| {
                        token.clear();
                        gateway
                            .wrap(black_box(&message), confidential, &mut token)
                            .expect("a token");
                    });
                });
                token.clear();
                client.wrap(&message, confidential, &mut token).expect("a token");
                let mut room = token.clone();
                group.bench_function(format!("unwrap, {protection}, {size} B"), |it| {
                    it.iter(|| {
                        // What is opened is gone; the copy counts.
                        room.copy_from_slice(black_box(&token));
                        gateway.unwrap(&mut room).expect("a message");
                    });
                });
            }
        }
        group.finish();
    }
}

fn end(is_initiator: bool, key: &[u8], enctype: u32) -> Cfx {
    let (sends, receives) = (0, 0);
    let exported = Exported { is_initiator, sends, receives, key, enctype, is_acceptors: true };
    Cfx::new(&exported, &[0x5a; SEED_BYTES]).expect("a key of ours")
}
