"""The style sheet of the HTML report: one column on a phone, light or dark as the reader's system is."""

STYLE = """
:root{color-scheme:light dark;--bg:#f7f7f5;--card:#fff;--ink:#1b1d21;--muted:#666b73;--line:#e3e3de;--track:#efefeb;
--good:#19733a;--bad:#b3261e;--warn:#7a4f00;--warn-bg:#fdf3dc;
--s0:#9ba1a9;--s1:#0f766e;--s2:#c2630c;--s3:#3b6fc4;--s4:#8250b8;--s5:#b83b6a}
@media(prefers-color-scheme:dark){:root{--bg:#131519;--card:#1b1e23;--ink:#e9e9e6;--muted:#9da3ac;--line:#2d3138;--track:#262a30;
--good:#5fc98a;--bad:#ff8a7d;--warn:#f2cd82;--warn-bg:#332a17;
--s0:#737a84;--s1:#3ab5a8;--s2:#e8944a;--s3:#7aa5ee;--s4:#b893e6;--s5:#ec85ab}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 48px}
header p{margin:4px 0 0;color:var(--muted);overflow-wrap:anywhere}
h1{overflow-wrap:anywhere;font-size:26px;line-height:1.2;margin:0;letter-spacing:-.01em}h2{font-size:18px;margin:40px 0 12px}
h3{font-size:13px;margin:0 0 10px;color:var(--muted);font-weight:600}
.tiles{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));margin:22px 0}
.charts{columns:3 300px;column-gap:14px;margin:0 0 14px}.charts .card{break-inside:avoid;margin:0 0 14px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;min-width:0}
.tile b{display:block;font-size:28px;line-height:1.25;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile span{color:var(--muted);font-size:13px;overflow-wrap:anywhere}
.about{margin:22px 0 -10px;font-weight:600;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad)}.undecided{color:var(--warn)}.muted{color:var(--muted)}
.warning{background:var(--warn-bg);color:var(--warn);border-radius:8px;padding:9px 14px;margin:8px 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px;margin:0 0 14px}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 12px;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;color:var(--muted);font-weight:600;white-space:nowrap}
td:first-child{min-width:160px;max-width:360px;overflow-wrap:anywhere}
.r{text-align:right;white-space:nowrap}.nowrap{white-space:nowrap}
.facts td:first-child{min-width:0;color:var(--muted);white-space:nowrap}.facts td{overflow-wrap:anywhere}
details{margin:0 0 14px}summary{cursor:pointer;color:var(--muted);padding:6px 0}
.meter{display:block;height:5px;min-width:70px;background:var(--track);border-radius:3px;margin-top:4px;position:relative}
.meter i{position:absolute;left:0;top:0;height:5px;border-radius:3px;background:var(--s1)}.meter .was{background:var(--s0)}
svg{display:block;width:100%;max-width:480px;height:auto;overflow:visible}
svg text{fill:var(--ink);font-size:12px;font-variant-numeric:tabular-nums}svg .end{text-anchor:end}svg .strong{font-weight:600}
svg .middle{text-anchor:middle}
svg .muted{fill:var(--muted);font-size:11px}.track{fill:var(--track)}.axis{stroke:var(--line);fill:none}
.whisker,.median{stroke:var(--ink);stroke-width:1.3;fill:none}.soft{opacity:.55}.edge{stroke:var(--ink);stroke-width:.8}
.v-better{fill:var(--good)}.v-worse{fill:var(--bad)}.v-same{fill:var(--s1)}.v-inconclusive{fill:var(--s0);stroke:var(--ink)}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}.s4{fill:var(--s4)}.s5{fill:var(--s5)}
footer{color:var(--muted);font-size:13px;margin-top:36px}
@media(max-width:560px){main{padding:20px 12px 32px}h1{font-size:22px}.tiles{grid-template-columns:1fr 1fr;gap:10px}
.tile{padding:10px 12px}.tile b{font-size:22px}th,td{padding:6px 9px}}
@media print{body{background:#fff}.card,.scroll,.tile{break-inside:avoid}}
"""
