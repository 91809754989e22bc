// Package cpuidle keeps the processors of a virtual machine from being halted while somebody waits for each
// answer in turn.
//
// A processor with nothing to do is halted, and in a virtual machine waking it is the host's work: tens of
// microseconds each time. A client that sends one call, waits for the answer and sends the next lets the processors fall
// asleep and be woken several times a call. The kernel has an interface for who minds that, /dev/cpu_dma_latency
// (Documentation/power/pm_qos_interface.rst): while a latency of 0 is asked for, an idle processor polls for
// work instead. That takes nothing from any program on the machine, but the host sees a busy processor.
//
// A Keeper asks for it while calls of this kind come fast, and takes it back soon after they stop.
//
// There is one goroutine, of a timer, while that is asked for; Close ends it. Keeper.mu is a leaf.
package cpuidle
