"""The style and script of the replay report."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2733;--paper:#fff;--faint:#d5dbe1;--soft:#5b6875}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf0;--paper:#12171c;--faint:#2c353e;--soft:#97a3af}}
body{font:15px/1.5 system-ui,sans-serif;margin:0;background:var(--paper);color:var(--ink)}
main{max-width:1200px;margin:0 auto;padding:1.5rem}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}h3{font-size:.95rem;
margin:1rem 0 .2rem}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,thead th{padding:.3rem .7rem;border-bottom:1px solid var(--faint);text-align:right}tbody th{text-align:left}
thead th{font-weight:500;color:var(--soft);vertical-align:bottom}canvas{width:100%;display:block}ul,#readout{color:var(--soft)}
#legend label{margin-right:1rem;white-space:nowrap}i{display:inline-block;width:.8em;height:.8em;margin:0 .3em}
"""

SCRIPT = """
'use strict';
const data=JSON.parse(document.getElementById('data').textContent);
const names=Object.keys(data.policies),count=data.partitions.length,hours=data.hours,start=Date.parse(data.first);
const colours=['#8a94a0','#4f9d69','#d08a1d','#8b6bc9','#2f7fd6','#c94f7c'];
const grids={};names.forEach(n=>{const s=atob(data.policies[n].utilisation),a=new Uint8Array(s.length);
for(let i=0;i<s.length;i++)a[i]=s.charCodeAt(i);grids[n]=a});
let from=0,to=hours;const hidden=new Set(),css=n=>getComputedStyle(document.documentElement).getPropertyValue(n).trim();
const stamp=h=>new Date(start+h*3600e3).toISOString().slice(0,16).replace('T',' ')+'Z';
const legend=document.getElementById('legend'),maps=document.getElementById('maps'),readout=document.getElementById('readout');
names.forEach((n,i)=>{const l=document.createElement('label'),b=document.createElement('input'),k=document.createElement('i');
b.type='checkbox';b.checked=true;b.onchange=()=>{b.checked?hidden.delete(n):hidden.add(n);draw()};
k.style.background=colours[i%6];l.append(b,k,n);legend.append(l);
const h=document.createElement('h3'),c=document.createElement('canvas');h.textContent=n;c.id='map-'+i;c.height=count*18;
c.setAttribute('role','img');c.setAttribute('aria-label','Utilisation by partition and hour under '+n);maps.append(h,c);
let at=null;
const hour=e=>Math.floor(from+(e.offsetX/c.clientWidth)*(to-from));
c.onmousedown=e=>{at=hour(e)};c.onmouseup=e=>{const b=hour(e);
if(at!==null&&Math.abs(b-at)>2){[from,to]=[Math.min(at,b),Math.max(at,b)]}else{[from,to]=[0,hours]}at=null;draw()};
c.onmousemove=e=>{const t=Math.min(hours-1,hour(e)),p=Math.min(count-1,Math.floor(e.offsetY/18));
const m=data.policies[n].moves.filter(v=>v[0]===t&&v[1]===p).map(v=>v[2]);
readout.textContent=stamp(t)+', '+data.partitions[p]+' ('+data.places[p]+') under '+n+': '+grids[n][p*hours+t]+' %'
+(m.length?'; arrived: '+m.slice(0,4).join(', '):'')}});
function sized(c){const r=devicePixelRatio||1,w=c.clientWidth,h=c.dataset.h||(c.dataset.h=c.height);
c.width=w*r;c.height=h*r;c.style.height=h+'px';const g=c.getContext('2d');g.setTransform(r,0,0,r,0,0);return[g,w,+h]}
function heat(u){if(u>100)return u>130?'#b3121d':'#e0443e';const t=u/100;return t<.5?`hsl(205 60% ${94-t*60}%)`
:`hsl(${205-(t-.5)*330} 70% ${64-(t-.5)*20}%)`}
function draw(){const[g,w,h]=sized(document.getElementById('lines')),n=to-from;g.clearRect(0,0,w,h);
const y=u=>h-20-(h-30)*Math.min(u,200)/200;g.font='11px system-ui';g.fillStyle=css('--soft');
[50,100,150,200].forEach(u=>{g.strokeStyle=u===100?'#e0443e':css('--faint');g.beginPath();g.moveTo(0,y(u));g.lineTo(w,y(u));
g.stroke();g.fillText(u+' %',2,y(u)-2)});
for(let k=0;k<6;k++)g.fillText(stamp(Math.floor(from+k*n/6)).slice(0,10),k*w/6,h-5);
names.forEach((p,i)=>{if(hidden.has(p))return;const a=grids[p],by=Math.max(1,Math.floor(n/w));g.strokeStyle=colours[i%6];
g.globalAlpha=.8;g.beginPath();for(let t=from;t<to;t+=by){let m=0;for(let s=t;s<Math.min(to,t+by);s++)
for(let q=0;q<count;q++)m=Math.max(m,a[q*hours+s]);const x=(t-from)/n*w;t===from?g.moveTo(x,y(m)):g.lineTo(x,y(m))}
g.stroke();g.globalAlpha=1});
names.forEach((p,i)=>{const[g,w]=sized(document.getElementById('map-'+i)),a=grids[p],by=Math.max(1,Math.floor(n/w));
for(let q=0;q<count;q++)for(let t=from;t<to;t+=by){let m=0;for(let s=t;s<Math.min(to,t+by);s++)m=Math.max(m,a[q*hours+s]);
g.fillStyle=heat(m);g.fillRect((t-from)/n*w,q*18,by/n*w+.6,17)}
g.fillStyle='#10151a';data.policies[p].moves.forEach(([t,q])=>{if(t>=from&&t<to)g.fillRect((t-from)/n*w-1,q*18+7,3,3)})})}
addEventListener('resize',draw);matchMedia('(prefers-color-scheme:dark)').addEventListener('change',draw);draw();
"""
