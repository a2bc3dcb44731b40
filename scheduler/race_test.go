//go:build race

package scheduler

// clusters is fewer where everything is slow.
const clusters = 20
