package main

import "runtime"

// idleHeap is memory, in bytes, that is counted and never touched, so that it
// takes no RAM. The collector runs once the heap has doubled, which for a server
// that holds a few MiB between two uploads means for every few of them: it took a
// third of ferry's processor time. Counted with this, the heap doubles seldom; how
// it grows with what is really held stays as it is, and GOGC and GOMEMLIMIT mean
// what they always do.
const idleHeap = 16 << 20

// collectSeldom holds idleHeap until the returned function is called.
func collectSeldom() (release func()) {
	held := make([]byte, idleHeap)
	return func() { runtime.KeepAlive(held) }
}
