"""Where raw videos come from: folders, tables, tars, stores, or the procedural world; one item for each row."""

from .captions import CAPTION_TEMPLATE, UNKNOWN, label_from_name
from .item import WHOLE, Annotation, LocalFile, Location, Range, RemoteFile, SourceItem, TarMember
from .listing import SOURCES_CSV, TRUTH_FILE, Listing, list_items, listing_digest
from .names import VIDEO_SUFFIXES
from .world import SYNTH_SOURCE, is_synth

__all__ = [
    "CAPTION_TEMPLATE",
    "SOURCES_CSV",
    "SYNTH_SOURCE",
    "TRUTH_FILE",
    "UNKNOWN",
    "VIDEO_SUFFIXES",
    "WHOLE",
    "Annotation",
    "Listing",
    "LocalFile",
    "Location",
    "Range",
    "RemoteFile",
    "SourceItem",
    "TarMember",
    "is_synth",
    "label_from_name",
    "list_items",
    "listing_digest",
]
