//! The store's disk on the page: one store serves all shards, so its series have no label `shard`.

use ::metrics::{Counter, Gauge, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::series::Measured;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

macro_rules! store {
    (
        gauges { $($gauge:ident, $gauge_name:literal, $gauge_help:literal;)* }
        counters { $($counter:ident, $counter_name:literal, $counter_help:literal;)* }
    ) => {
        /// What a store says of itself.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StoreFigures { $(#[doc = $gauge_help] pub $gauge: u64,)* $(#[doc = $counter_help] pub $counter: u64,)* }

        /// Held handles of [`StoreFigures`].
        pub struct StoreHandles { $($gauge: Gauge,)* $($counter: Counter,)* }

        impl StoreHandles {
            pub(super) fn new(recorder: &PrometheusRecorder) -> Self {
                $(recorder.describe_gauge($gauge_name.into(), None, $gauge_help.into());)*
                $(recorder.describe_counter($counter_name.into(), None, $counter_help.into());)*
                Self {
                    $($gauge: recorder.register_gauge(&Key::from_static_name($gauge_name), &METADATA),)*
                    $($counter: recorder.register_counter(&Key::from_static_name($counter_name), &METADATA),)*
                }
            }

            /// Puts the present figures on the page.
            pub fn publish(&self, figures: &StoreFigures) {
                $(self.$gauge.set(figures.$gauge.value());)*
                $(self.$counter.absolute(figures.$counter);)*
            }
        }
    };
}

store! {
    gauges {
        live_bytes, "switchboard_store_live_bytes",
            "Bytes of the keys and values of all documents, as of the last checkpoint.";
        journal_bytes, "switchboard_store_journal_bytes",
            "Bytes of the journal on the disk.";
        view_bytes, "switchboard_store_view_bytes",
            "Bytes of the view on the disk; while it is copied, of both.";
        export_bytes, "switchboard_store_export_bytes",
            "Bytes of the export on the disk.";
    }
    counters {
        checkpoints, "switchboard_store_checkpoints_total",
            "Times that the view was brought up to date.";
        exports, "switchboard_store_exports_total",
            "Exports of all documents.";
        compactions, "switchboard_store_compactions_total",
            "Copies of the view into a smaller one.";
        syncs, "switchboard_store_syncs_total",
            "Times that the disk confirmed what the journal had written.";
        sync_microseconds, "switchboard_store_sync_microseconds_total",
            "How long the journal waited for that.";
    }
}
