import sys, time, numpy as np
from numba import int64, int32, types, void, uint8
from mmcore import AddressSpace, PhysicalMemory, ForkMode
from mmcore.fork import fork
from mmcore.fault import own_path
from mmcore.frames import frame_alloc
from mmcore.jit import linked, build
from mmcore.mmu import load8, store8, copy_in, copy_out
from mmcore.paging import MAPPING, entry_for, slot_of
from mmcore.release import release_step
from mmcore.state import SPACE, MEMORY
from mmcore.tables import set_entry
_cg = types.ExternalFunction("clock_gettime", int32(int32, int64))
@linked(int64(int64[::1]))
def now(t):
    _cg(int32(1), int64(t.ctypes.data))
    return t[0]*1_000_000_000+t[1]
@linked(int64(SPACE,int64,int64[::1],int64[::1]))
def timed_fork(space,mode,t,out):
    b=now(t); r=fork(space,mode); out[0]=now(t)-b
    return r
@linked(void(SPACE,int64[::1],int64[::1],int64[::1],int64[::1]))
def timed_writes(space,vas,t,out,copied):
    for i in range(vas.size):
        c=space.cpu[TC]
        b=now(t); store8(space,vas[i],7); out[i]=now(t)-b
        copied[i]=space.cpu[TC]-c
@linked(int64(MEMORY,int64[::1],int64,int64[::1],int64[::1]))
def timed_exit(mem,cursor,budget,t,out):
    n=0
    while cursor[0]!=-1:
        b=now(t); release_step(mem,cursor,budget); d=now(t)-b
        if n<out.size: out[n]=d
        n+=1
    return n
@linked(int64(SPACE,int64,int64,int64))
def alias(space,va,pts,frame):
    mem=space.mem
    for i in range(pts):
        pt=own_path(space,va,1)
        for j in range(512):
            set_entry(mem,slot_of(pt,0,1)+j,entry_for(frame,MAPPING))
        mem.refcount[frame]+=512
        va+=1<<21
    return 0
@linked(void(SPACE,int64,int64,int64,uint8[::1]))
def sweep(space,va,size,write,buf):
    at=0
    while at<size:
        if write: copy_in(space,va+at,buf,0,buf.size)
        else: copy_out(space,va+at,buf,0,buf.size)
        at+=buf.size
from mmcore.state import TABLES_COPIED as TC
build()
t=np.zeros(2,np.int64); out=np.zeros(4,np.int64)
GIB=1<<30; B=1<<30
def pct(a): return "p50 %d p99 %d p99.9 %d max %d"%tuple(np.percentile(a,[50,99,99.9,100]))
def warm(mem,size):
    s=AddressSpace(mem); s.map(B,size); w=np.arange(B,B+size,4096)
    timed_writes(s.state,w,t,np.zeros(w.size,np.int64),np.zeros(w.size,np.int64)); s.exit()
which=sys.argv[1:] or ["fork","faults","exit","tera","whole"]
now(t)
if {"fork","faults","exit"}&set(which):
    mem=PhysicalMemory(2660<<20); warm(mem,2458<<20)
    s=AddressSpace(mem); s.map(B,GIB)
    vas=np.arange(B,B+GIB,4096); timed_writes(s.state,vas,t,np.zeros(vas.size,np.int64),np.zeros(vas.size,np.int64))
if "fork" in which:
    for mode in ForkMode:
        r=[]
        for _ in range(40 if mode else 12):
            root=int(timed_fork(s.state,int(mode),t,out)); r.append(int(out[0]))
            AddressSpace.of_root(mem,root,0).exit()
        print(mode.name,"fork 1 GiB ns: median",int(np.median(r)),"min",min(r))
if "faults" in which:
    rng=np.random.default_rng(1)
    for rnd in range(3):
      for mode in ForkMode:
        c=s.fork(mode); order=rng.permutation(vas); o=np.zeros(vas.size,np.int64); k=np.zeros(vas.size,np.int64)
        timed_writes(s.state,order,t,o,k)
        print(rnd,mode.name,"first writes:",pct(o),"| page only: p50 %d | table+page: %s n=%d | all levels: %s"%(np.median(o[k==0]), pct(o[k==1]) if (k==1).any() else "-",(k==1).sum(), o[k>1]))
        c.exit()
if "exit" in which:
    for mode in ForkMode:
        c=s.fork(mode); o=np.zeros(vas.size,np.int64); k=o.copy()
        timed_writes(s.state,rng.permutation(vas) if "faults" in which else vas,t,o,k)
        ex=c.exit_begin(); o=np.zeros(4000,np.int64); n=timed_exit(mem.state,ex.cursor,1000,t,o); print(mode.name,"exit steps",n,pct(o[:min(n,4000)]),"total us",o.sum()/1e3)
if "tera" in which:
    mem=PhysicalMemory((524288+4000)*4096); s=AddressSpace(mem); s.map(1<<21,4096)
    f=int(s.state.mem.entries[0]*0); 
    from mmcore.walk import walk
    f=int(walk(s.state.mem,s.root,1<<21,0))
    for pts,name in ((25600,"50 GiB"),(524288,"1 TiB")):
        alias(s.state,B if pts==25600 else B+25600*(1<<21),pts if pts==25600 else 524288-25600,f)
        for mode in (1,2):
            r=[]
            for _ in range(9):
                root=int(timed_fork(s.state,mode,t,out)); r.append(int(out[0])); AddressSpace.of_root(mem,root,0).exit()
            print(name,ForkMode(mode).name,"median",np.median(r))
        if pts==25600 and "classic50" in which:
            root=int(timed_fork(s.state,0,t,out)); print("classic",out[0])
if "whole" in which:
    mem=PhysicalMemory(8500<<20); warm(mem,8400<<20); s=AddressSpace(mem); S=4*GIB; s.map(B,S); buf=np.ones(32<<20,np.uint8)
    sweep(s.state,B,S,1,buf)
    for w in (1,0):
        res={m:[] for m in ForkMode}
        for rnd in range(5):
            for m in ForkMode:
                b=time.perf_counter_ns(); root=int(timed_fork(s.state,int(m),t,out)); sweep(s.state,B,S,w,buf); res[m].append(time.perf_counter_ns()-b)
                AddressSpace.of_root(mem,root,0).exit()
        base=np.array(res[ForkMode.CLASSIC]); 
        print("write" if w else "read",{m.name:("%.0f ms"%(np.median(res[m])/1e6),"%.3f (median of ratios) %.3f (min)"%(np.median(np.array(res[m])/base),min(res[m])/min(base))) for m in ForkMode})
