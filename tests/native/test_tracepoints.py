"""Kernel tests that need nothing but raw tracepoints, on this machine's own kernel."""
# ruff: noqa: F401 (importing a test is running it here)

from tests.kernel.test_bad_input import (
    test_full_disk_ends_the_collection_and_keeps_whole_events,
    test_missing_bcc_is_named,
    test_missing_capability_is_named,
    test_tracepoint_of_a_module_that_is_not_loaded,
    test_unwritable_output_is_refused_before_anything_is_attached,
)
from tests.kernel.test_collect import (
    test_command_runs_once_probes_are_attached,
    test_events_of_all_cpus_are_in_order_of_time,
    test_events_written_and_events_lost_add_up,
    test_killed_collection_leaves_a_readable_file,
    test_printed_events_are_those_of_the_file,
    test_signal_ends_a_collection_cleanly,
    test_stop_after_counts_events,
    test_without_file_events_are_printed,
)
from tests.kernel.test_drop import (
    test_filter_leaves_out_other_drops,
    test_syn_to_closed_port_is_dropped_for_no_socket,
)
from tests.kernel.test_filters import (
    test_both_filters_must_match,
    test_meta_filter_reports_what_matches,
    test_meta_filter_tells_devices_apart,
    test_meta_filter_tells_namespaces_apart,
    test_packet_filter_reports_what_libpcap_matches,
    wire,
)
from tests.kernel.test_packets import (
    test_captured_bytes_are_those_tcpdump_sees,
    test_handshake_and_close_are_nine_packets_at_each_probe,
    test_long_packet_is_captured_up_to_255_bytes,
)
from tests.kernel.test_sections import (
    test_all_collectors_report_a_ping,
    test_segments_of_a_large_packet_are_counted,
    test_startup_event_names_the_machine,
)
from tests.kernel.test_tracking import (
    test_bridge_floods_clones_that_keep_the_id,
    test_every_packet_of_a_connection_has_an_id_of_its_own,
    test_first_event_of_a_packet_is_when_it_was_first_seen,
    test_packet_keeps_its_id_through_a_translating_router,
)
from tests.kernel.test_values import (
    test_arguments_of_a_tracepoint_have_their_names_and_values,
    test_hit_without_a_packet_has_arguments_and_no_packet,
)
