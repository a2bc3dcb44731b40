//go:build !race

package scheduler

const clusters = 280
