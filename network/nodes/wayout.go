package nodes

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/host"
)

// wayOut lets the nodes reach what the machine reaches: it forwards, and what leaves the
// nodes' link carries the machine's address.
func (c *Config) wayOut() error {
	const key = "net.ipv4.ip_forward"
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(before)) != "1" {
		if err := c.Recorder.Record(host.Change{Kind: host.Sysctl, Name: key, Before: strings.TrimSpace(string(before))}); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("let the machine forward packets: %w", err)
		}
	}
	if err := c.Recorder.Record(host.Change{Kind: host.Table, Name: "ip " + c.Table}); err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: c.Table}
	conn.AddTable(table)
	conn.DelTable(table) // what a former start left; the three go as one transaction
	conn.AddTable(table)
	chain := conn.AddChain(&nftables.Chain{
		Name: "out", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	first := c.Subnet.Masked().Addr().As4()
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - c.Subnet.Bits()))
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, c.Bridge)
	// ip saddr <subnet> oifname != <bridge> ip daddr != <subnet> masquerade
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first[:]},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_UNICAST)},
		&expr.Masq{},
	}})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("let the nodes out: %w", err)
	}
	return nil
}
