package main

import (
	"io"
	"os"
	"strconv"
)

// ParentPipe names the variable that holds the number of an inherited descriptor: the reading end of a pipe whose other
// end only the starter holds.
const ParentPipe = "CONTROLPLANE_PARENT_PIPE"

// dieWithParent ends this process as soon as the starter is gone, however it went: the kernel closes its end of the pipe
// even on SIGKILL. (The death signal of Linux would follow the starting thread, not the process.)
func dieWithParent() {
	number, err := strconv.Atoi(os.Getenv(ParentPipe))
	if err != nil {
		return
	}
	_ = os.Unsetenv(ParentPipe) // the descriptor is ours alone
	pipe := os.NewFile(uintptr(number), "parent")
	go func() {
		_, _ = io.Copy(io.Discard, pipe)
		os.Exit(1)
	}()
}
