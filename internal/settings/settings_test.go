package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestApply(t *testing.T) {
	known := map[string]bool{"port": true, "name": true, "san": true, "pairs": true, "elsewhere": true}
	cases := []struct {
		name, args, file string
		env              map[string]string
		port             int
		want             string
		err              string
		pairs            string
	}{
		{name: "nothing given", port: 1, want: "d"},
		{name: "file", file: "port: 2\nname: f\nsan: [a, b]\nelsewhere: 3\n", port: 2, want: "f"},
		{name: "environment over file", file: "port: 2", env: map[string]string{"PROA_PORT": "3"}, port: 3, want: "d"},
		{name: "flag over both", args: "--port=4", file: "port: 2", env: map[string]string{"PROA_PORT": "3"}, port: 4, want: "d"},
		{name: "unknown key", file: "prot: 2", err: "unknown setting prot"},
		{name: "wrong type", file: "port: x", err: "port: invalid argument"},
		{name: "map", file: "pairs: {a: true, b: 1}\nport: 2", port: 2, want: "d", pairs: "map[a:true b:1]"},
		{name: "map for a number", file: "port: {a: 1}", err: "port: invalid argument"},
		{name: "nested", file: "port: {a: {b: 1}}", err: "port: must be a text"},
		{name: "not YAML", file: "port: [", err: "settings.yaml"},
		{name: "twice", file: "port: 1\nport: 2", err: "already set"},
		{name: "bad environment", env: map[string]string{"PROA_PORT": "x"}, err: "environment variable PROA_PORT"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			port := flags.Int("port", 1, "")
			name := flags.String("name", "d", "")
			flags.StringSlice("san", nil, "")
			pairs := flags.StringToString("pairs", nil, "")
			if err := flags.Parse(strings.Fields(c.args)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "settings.yaml")
			if c.file != "" {
				if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := Apply(flags, file, func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }, known)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q in it", err, c.err)
				}
				return
			}
			if got := fmt.Sprint(*pairs); c.pairs != "" && got != c.pairs {
				t.Errorf("pairs %s, want %s", got, c.pairs)
			}
			if err != nil || *port != c.port || *name != c.want {
				t.Errorf("port %d, name %q, error %v; want %d, %q", *port, *name, err, c.port, c.want)
			}
		})
	}
}
