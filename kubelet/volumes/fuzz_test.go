package volumes

import "testing"

func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n", "/mnt")
	f.Fuzz(func(_ *testing.T, table, below string) { parseMounts(table, below) })
}
