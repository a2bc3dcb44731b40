package reload

import (
	"crypto/sha256"
	"encoding/hex"
	"os"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector shows how often files were reloaded, by the names that Kubernetes has for it:
// apiserver_authentication_config_controller_automatic_reloads_total and so on.
func Collector(files ...*File) prometheus.Collector {
	host, err := os.Hostname()
	if err != nil {
		host = "" // one server is told from another elsewhere too
	}
	sum := sha256.Sum256([]byte(host))
	c := &collector{id: "sha256:" + hex.EncodeToString(sum[:])}
	for _, f := range files {
		begin, labels := "apiserver_"+f.cfg.Name+"_config_controller_automatic_reload", []string{"status", "apiserver_id_hash"}
		c.all = append(c.all, described{f,
			prometheus.NewDesc(begin+"s_total", "Total number of automatic reloads of "+f.cfg.Name+" configuration split by status and apiserver identity.", labels, nil),
			prometheus.NewDesc(begin+"_last_timestamp_seconds", "Timestamp of the last automatic reload of "+f.cfg.Name+" configuration split by status and apiserver identity.", labels, nil),
		})
	}
	return c
}

type collector struct {
	id  string
	all []described
}

type described struct {
	*File
	total, last *prometheus.Desc
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.all {
		to <- d.total
		to <- d.last
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, d := range c.all {
		for _, s := range []struct {
			status string
			n, at  int64
		}{{"success", d.good.Load(), d.lastGood.Load()}, {"failure", d.bad.Load(), d.lastBad.Load()}} {
			if s.n == 0 {
				continue
			}
			to <- prometheus.MustNewConstMetric(d.total, prometheus.CounterValue, float64(s.n), s.status, c.id)
			to <- prometheus.MustNewConstMetric(d.last, prometheus.GaugeValue, float64(s.at)/1e9, s.status, c.id)
		}
	}
}
