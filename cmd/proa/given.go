package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// given writes the flags that the user set (on the command line, in the environment or
// in the settings file) as arguments for another process, but for those named.
func given(cmd *cobra.Command, except ...string) []string {
	skip := map[string]bool{"config": true}
	for _, name := range except {
		skip[name] = true
	}
	var args []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if skip[f.Name] {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			args = append(args, "--"+f.Name+"="+strings.Join(list.GetSlice(), ","))
			return
		}
		args = append(args, "--"+f.Name+"="+f.Value.String())
	})
	return args
}
