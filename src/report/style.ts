/** The style of report.html: a phone, a desk and paper; light and dark. No font, picture or file from outside. */
export const STYLE = `
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#5b6570;--rule:#d9dee4;--good:#1a7f4b;--warn:#a05a00;--bad:#c0262d;
--checking:#8796a5;--snapshot:#2f6fbe;--catching-up:#3f87b0;--in-sync:#2f9470;--writable:#a87413;--promoted:#1a7f4b;--rolled-back:#a05a00;--failed:#c0262d;--stopped:#8a939d}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1d2228;--ink:#e7ebef;--soft:#9aa5b1;--rule:#333b44;--good:#4cc38a;--warn:#e5a54b;--bad:#ff7b7f;
--checking:#56606b;--snapshot:#3f7fc4;--catching-up:#5a93c7;--in-sync:#3f9c78;--writable:#c08c2a;--promoted:#2f9e66;--rolled-back:#b9772a;--failed:#d6484e;--stopped:#6b747e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:62rem;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1rem;font-weight:600;margin:0;color:var(--soft)}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem}
h3{font-size:.95rem;margin:1.4rem 0 .4rem}
p{margin:.3rem 0}
a{color:inherit}
.soft,.label,.peak,time{color:var(--soft)}
.outcome{margin:1rem 0;padding:1rem 1.2rem;background:var(--card);border-left:6px solid var(--rule);border-radius:4px}
.outcome.good{border-color:var(--good)}.outcome.warn{border-color:var(--warn)}.outcome.bad{border-color:var(--bad)}
.outcome strong{display:block;font-size:1.5rem;line-height:1.25}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0;padding:0}
.tiles div{background:var(--card);border-radius:4px;padding:.6rem .9rem}
.tiles dt{color:var(--soft);font-size:.85rem}.tiles dd{margin:0;font-size:1.2rem;font-weight:600}
.todo li{margin:.35rem 0}
code{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--card);padding:.1rem .3rem;border-radius:3px;white-space:pre-wrap}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;font-weight:600;color:var(--soft);white-space:nowrap}
th,td{padding:.28rem .9rem .28rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
td{font-variant-numeric:tabular-nums;white-space:nowrap}
td.wide,td.name{white-space:normal;overflow-wrap:anywhere}td.wide{min-width:14rem}td.name{min-width:7rem}
.good-text{color:var(--good)}.warn-text{color:var(--warn)}.bad-text{color:var(--bad)}
section{border-top:1px solid var(--rule);margin-top:2rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem;margin:1rem 0}
figure{margin:0}
figcaption{display:flex;justify-content:space-between;font-size:.85rem;font-weight:600}
.peak{font-weight:400}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
svg .end{text-anchor:end}
svg .on-bar{fill:#fff;font-weight:600}
.axis{stroke:var(--soft);stroke-width:1}.grid{stroke:var(--rule);stroke-width:1;stroke-dasharray:3 4}
.line{fill:none;stroke:var(--snapshot);stroke-width:1.5}.area{fill:var(--snapshot);opacity:.18;stroke:none}
.mark{stroke:var(--promoted);stroke-width:1;stroke-dasharray:4 3}
.nothing{fill:var(--card)}
.checking{fill:var(--checking)}.snapshot{fill:var(--snapshot)}.catching-up{fill:var(--catching-up)}.in-sync{fill:var(--in-sync)}.writable{fill:var(--writable)}
.promoted{fill:var(--promoted)}.rolled-back{fill:var(--rolled-back)}.failed{fill:var(--failed)}.stopped{fill:var(--stopped)}
footer{margin-top:3rem;font-size:.85rem;color:var(--soft)}
@media print{:root{--bg:#fff;--card:#f6f7f9;--ink:#000;--soft:#444;--rule:#bbb}
body{max-width:none;padding:0;font-size:10.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}
.scroll{overflow:visible}td{white-space:normal}td.wide,td.name{min-width:0}figure,tr,.outcome,.tiles div{break-inside:avoid}h2,h3{break-after:avoid}}
`;
