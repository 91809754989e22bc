// Package ceiling runs AES rounds on registers and nothing else: the most that any AES code can
// reach on this processor. The cipher's benchmark compares itself with it in the same run.
//
// It holds no state, no locks and no goroutines.
package ceiling
