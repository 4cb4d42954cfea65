"""`funnel.html`: what selection did with the clips, in numbers, distributions and strips of examples."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.records import USES
from ..stages.workspace import Workspace
from .funnel import fate_of
from .rules import MEANINGS

_SHOWN_SIGNALS = (
    *("loudness_dbfs", "silence_share", "still_share", "motion_peak", "cuts", "av_correlation", "av_offset_sec"),
    *("av_confidence", "sync_score", "sync_match", "sync_offset_sec", "synchronisability", "speech_share"),
)
_OTHER_GROUPS = {
    "corrected": "kept with a corrected sound offset; the sound is drawn where the correction puts it",
    "kept": "used as they are, for comparison",
}

Row = Mapping[str, Any]


def funnel_page(
    rows: Sequence[Row],
    clips: Mapping[str, Row],
    signals: Mapping[str, Row],
    funnel: Mapping[str, Any],
    spread: Mapping[str, Any],
    workspace: Workspace,
    examples: int,
) -> str:
    """The page as text; equal selections and media give equal text.

    `rows` are those of the selection, `clips` and `signals` by clip id, `funnel` and `spread` what `curation.funnel`
    counted; up to `examples` clips of every reason are decoded and drawn.
    """
    from jinja2 import Environment, StrictUndefined

    from .charts import histograms_png

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    strips = _Strips(clips, signals, workspace)
    groups = [
        {"name": name, "meaning": meaning, "count": len(members), "strips": strips.of(members[:examples])}
        for name, meaning, members in _groups(rows)
    ]
    columns = [use for use in USES if use != "dropped" and funnel["kept"].get(use)] + list(funnel["dropped"])
    return environment.from_string(_PAGE).render(
        funnel=funnel,
        dropped=sum(item["count"] for item in funnel["dropped"].values()),
        kept={use: count for use, count in funnel["kept"].items() if count},
        meanings=MEANINGS,
        columns=columns,
        histograms=_data_url(histograms_png(spread)) if spread else "",
        groups=groups if examples else [],
    )


def _groups(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Clips by the reason they are counted under, then corrected and untouched ones; each by clip id."""
    members: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: str(row["clip_id"])):
        if row["use"] == "dropped":
            members[fate_of(row)].append(row)
        else:
            members["corrected" if row["audio_shift_sec"] else "kept"].append(row)
    meanings = MEANINGS | _OTHER_GROUPS
    return [(name, meaning, members[name]) for name, meaning in meanings.items() if members[name]]


@dataclass(frozen=True)
class _Strips:
    clips: Mapping[str, Row]
    signals: Mapping[str, Row]
    workspace: Workspace

    def of(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What the page says and shows of these rows of the selection."""
        found = []
        for row in rows:
            found.append(self._strip(row["clip_id"], row["audio_shift_sec"], row["reasons"].replace(",", ", ")))
            stands_for_it = self.clips[row["clip_id"]]["duplicate_of"]
            if stands_for_it in self.clips and row["reasons"].startswith("near_duplicate"):
                found.append(self._strip(stands_for_it, 0.0, "stands for the clip above"))
        return found

    def _strip(self, clip_id: str, audio_shift_sec: float, note: str) -> dict[str, Any]:
        from .strips import clip_strip

        clip, signals = self.clips[clip_id], self.signals[clip_id]
        png = clip_strip(self.workspace.resolve(clip["media_uri"]), audio_shift_sec)
        values = [(name, signals[name]) for name in _SHOWN_SIGNALS if signals[name] is not None]
        return {
            "clip": clip,
            "note": note,
            "shift": audio_shift_sec,
            "signals": ", ".join(f"{name} {value:.3g}" for name, value in values),
            "image": _data_url(png) if png else "",
        }


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


# Here and not in a file beside: the fingerprint of the stage's code sees modules only.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Selection of {{ funnel.clips }} clips</title>
<style>
body { margin: 0 auto; padding: 1rem 1.5rem 4rem; max-width: 72rem; font: 15px/1.45 system-ui, sans-serif;
  background: #fff; color: #1c2128; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; border-top: 1px solid #d5d9df; padding-top: .7rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; white-space: nowrap; padding-bottom: .3rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #d5d9df; font-weight: 400; }
thead th { color: #5c6570; vertical-align: bottom; } .n { text-align: right; } .zero { color: #b3bac4; }
.tables { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; align-items: start; } .scroll { overflow-x: auto; }
img { display: block; max-width: 100%; } figure { margin: .9rem 0 1.3rem; }
figcaption { font-size: .82rem; color: #5c6570; } figcaption b { color: #1c2128; }
.muted { color: #5c6570; } code { overflow-wrap: anywhere; }
.onset { color: #1f6fd0; } .motion { color: #b95c00; } .wave { color: #77808b; }
</style>
</head>
<body>
<h1>What selection did with {{ funnel.clips }} clips</h1>
<p>{{ funnel.clips - dropped }} kept, {{ dropped }} dropped{% if funnel.corrected %}; {{ funnel.corrected }} of the kept
have a corrected sound offset{% endif %}. A clip with several reasons is counted under its first.</p>
<div class="tables">
<table><caption>Kept, by use</caption><tbody>
{% for use, count in kept.items() %}
<tr><th>{{ use }}</th><td class="n">{{ count }}</td></tr>
{% endfor %}
</tbody></table>
<table><caption>Dropped, by first reason</caption><tbody>
{% for reason, item in funnel.dropped.items() %}
<tr><th>{{ reason }}</th><td class="n">{{ item.count }}</td><td class="muted">{{ meanings[reason] }}</td></tr>
{% else %}
<tr><td>nothing was dropped</td></tr>
{% endfor %}
</tbody></table>
</div>
<h2>By class</h2>
<div class="scroll"><table><thead><tr><th>class</th><th class="n">clips</th>
{% for name in columns %}<th class="n">{{ name | replace("_", " ") }}</th>{% endfor %}</tr></thead><tbody>
{% for label, found in funnel.per_class.items() %}
<tr><th>{{ label }}</th><td class="n">{{ found.values() | sum }}</td>
{% for name in columns %}
<td class="n{{ '' if found[name] is defined else ' zero' }}">{{ found[name] | default(0) }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if histograms %}
<h2>Signals of kept and dropped clips</h2>
<p class="muted">The dashed line is the threshold of <code>select</code>, where one lies in the range. The outer bins
hold what lies beyond. Clips are dropped for any reason here, not only for the signal shown.</p>
<img src="{{ histograms }}" alt="A histogram of each signal, kept and dropped clips stacked">
{% endif %}
{% if groups %}
<h2>Examples</h2>
<p class="muted">Eight frames over the length of the clip; below them, on the same time axis, the
<span class="wave">waveform</span>, <span class="onset">onset strength of the sound</span> and
<span class="motion">rising motion of the picture</span>, the last two relative to their largest value.</p>
{% for group in groups %}
<h2 id="{{ group.name }}">{{ group.name | replace("_", " ") }} ({{ group.count }})</h2>
<p>{{ group.meaning }}</p>
{% for strip in group.strips %}
<figure>
{% if strip.image %}
<img src="{{ strip.image }}" alt="Frames, sound and motion of clip {{ strip.clip.clip_id[:12] }}">
{% else %}
<p class="muted">The clip's media file is gone or does not decode, so it is not shown.</p>
{% endif %}
<figcaption><b>{{ strip.clip.label or "no label" }}</b>{% if strip.note %}, {{ strip.note }}{% endif %}
{% if strip.shift %}, sound moved by {{ "%+.3f" | format(strip.shift) }} s{% endif %}; {{ strip.clip.source_uri }}
<code>{{ strip.clip.clip_id }}</code><br>{{ strip.signals }}</figcaption>
</figure>
{% endfor %}
{% endfor %}
{% endif %}
</body>
</html>
"""
