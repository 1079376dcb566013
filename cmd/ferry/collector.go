package main

import (
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
)

// idleHeap is memory, in bytes, that is counted and never touched, so that it
// takes no RAM. The collector runs once the heap has grown by growth percent, which
// for a server that holds a few MiB between two uploads means for every few of
// them: it took a third of ferry's processor time. Counted with this, it runs
// seldom while little is held, and sooner than is usual once much is.
const (
	idleHeap = 36 << 20
	growth   = 50
)

// collectSeldom holds idleHeap until the returned function is called. An operator
// who sets GOGC has it as it is set.
func collectSeldom() (release func()) {
	held := make([]byte, idleHeap)
	before := debug.SetGCPercent(growth)
	if os.Getenv("GOGC") != "" {
		debug.SetGCPercent(before)
	}
	return func() {
		debug.SetGCPercent(before)
		runtime.KeepAlive(held)
	}
}

// someConnections is how many more connections than ever before make the
// collector run, and give back what it finds.
const someConnections = 256

// collectAsConnectionsCome returns a hook for [http.Server.ConnState]. A
// connection holds 18 KiB for as long as it is open, idle or not. Where thousands
// come at once, what their first requests leave behind would lie between these
// and stay for as long: without this, 10,000 take a third more.
func collectAsConnectionsCome() func(net.Conn, http.ConnState) {
	var open, most atomic.Int64
	return func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			n, m := open.Add(1), most.Load()
			if n >= m+someConnections && most.CompareAndSwap(m, n) {
				go debug.FreeOSMemory()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}
