package blockdev

import "sync"

// threads does transfers in a fixed number of goroutines, which end with close.
type threads struct {
	work  chan task
	ended sync.WaitGroup
}

// task is one transfer of a plan.
type task struct {
	plan  *plan
	index int
}

func newThreads(count int) *threads {
	q := &threads{work: make(chan task, count)}
	for range count {
		q.ended.Go(q.loop)
	}
	return q
}

func (q *threads) loop() {
	for t := range q.work {
		t.plan.transfers[t.index].run()
		t.plan.pending.Done()
	}
}

// run gives all transfers but the first to the pool and does that one itself.
func (q *threads) run(p *plan) {
	p.pending.Add(len(p.transfers) - 1)
	for i := 1; i < len(p.transfers); i++ {
		q.work <- task{p, i}
	}
	p.transfers[0].run()
	p.pending.Wait()
}

// close is called when no run is under way.
func (q *threads) close() error {
	close(q.work)
	q.ended.Wait()
	return nil
}
