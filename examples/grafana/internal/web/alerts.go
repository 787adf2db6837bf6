package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/breakwater-go/breakwater/examples/grafana/internal/prometheus"
	"github.com/breakwater-go/breakwater/examples/grafana/internal/report"
)

// alertsData is what the page of alerts shows.
type alertsData struct {
	Minute   time.Duration
	Start    time.Time
	Counts   map[string]int     // by state
	Active   []prometheus.Alert // firing, pending or resolved, in this order
	Inactive []prometheus.Alert
	Episodes []report.Alert // the latest first
}

// urgency orders the states for people.
var urgency = map[prometheus.State]int{prometheus.Firing: 1, prometheus.Pending: 2, prometheus.Resolved: 3}

func (f *front) alerts(w http.ResponseWriter, r *http.Request) {
	json, handled := asJSON(w, r)
	all, episodes := f.Alerts(), f.Episodes()
	switch {
	case handled:
	case json:
		tell(w, alertsJSON(f.Minute, all, episodes))
	default:
		data := alertsData{Minute: f.Minute, Start: f.Start, Counts: make(map[string]int)}
		for _, a := range all {
			data.Counts[string(a.State)]++
			if a.State == prometheus.Inactive {
				data.Inactive = append(data.Inactive, a)
			} else {
				data.Active = append(data.Active, a)
			}
		}
		slices.SortStableFunc(data.Active, func(a, b prometheus.Alert) int {
			return cmp.Or(cmp.Compare(urgency[a.State], urgency[b.State]), b.Since.Compare(a.Since))
		})
		data.Episodes = slices.Clone(episodes)
		slices.Reverse(data.Episodes)
		f.show(w, page{Name: "alerts.html", Title: "Alerts · Breakwater demo", Data: data})
	}
}

// The JSON of alerts.
type (
	alertsDocument struct {
		MinuteSeconds float64         `json:"minute_seconds"` // what a minute in the rules lasts
		Alerts        []alertRecord   `json:"alerts"`
		Episodes      []episodeRecord `json:"episodes"`
	}
	alertRecord struct {
		Rule        string            `json:"rule"`
		Severity    string            `json:"severity,omitempty"`
		State       prometheus.State  `json:"state"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		Value       *float64          `json:"value,omitempty"`
		Since       time.Time         `json:"since,omitzero"`
		PendingAt   time.Time         `json:"pending_at,omitzero"`
		FiringAt    time.Time         `json:"firing_at,omitzero"`
		ResolvedAt  time.Time         `json:"resolved_at,omitzero"`
	}
	episodeRecord struct {
		Rule       string    `json:"rule"`
		About      string    `json:"about,omitempty"`
		Severity   string    `json:"severity,omitempty"`
		PendingAt  time.Time `json:"pending_at,omitzero"`
		FiringAt   time.Time `json:"firing_at,omitzero"`
		ResolvedAt time.Time `json:"resolved_at,omitzero"`
		EndedAt    time.Time `json:"ended_at,omitzero"` // without having fired
	}
)

func alertsJSON(minute time.Duration, all []prometheus.Alert, episodes []report.Alert) alertsDocument {
	d := alertsDocument{MinuteSeconds: minute.Seconds(), Alerts: []alertRecord{}, Episodes: []episodeRecord{}}
	for _, a := range all {
		r := alertRecord{
			Rule: a.Rule, Severity: a.Severity, State: a.State, Labels: a.Labels, Annotations: a.Annotations,
			Since: a.Since, PendingAt: a.PendingAt, FiringAt: a.FiringAt, ResolvedAt: a.ResolvedAt,
		}
		if a.State != prometheus.Inactive && !math.IsNaN(a.Value) && !math.IsInf(a.Value, 0) {
			r.Value = &a.Value
		}
		d.Alerts = append(d.Alerts, r)
	}
	for _, e := range episodes {
		d.Episodes = append(d.Episodes, episodeRecord(e))
	}
	return d
}

// notification is what an Alertmanager sends to a webhook, as far as it is used.
type notification struct {
	Alerts []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"alerts"`
}

// maxNotification is how long a notification may be, in bytes.
const maxNotification = 1 << 20

// webhook takes a notification and tells of each alert in it.
func (f *front) webhook(w http.ResponseWriter, r *http.Request) {
	var n notification
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNotification)).Decode(&n); err != nil {
		http.Error(w, "this is no notification of an Alertmanager: "+err.Error(), http.StatusBadRequest)
		return
	}
	for _, a := range n.Alerts {
		note := report.Note{At: time.Now(), Subject: "webhook", State: line(a.Status), Tone: report.Good}
		if a.Status == string(prometheus.Firing) {
			note.State, note.Tone = "FIRING", report.Bad
		}
		note.Text = line(a.Labels["alertname"] + " {" + labels(a.Labels) + "} " + a.Annotations["summary"])
		f.Notify(note)
	}
	w.WriteHeader(http.StatusNoContent)
}

// labels writes labels as Prometheus does, without the name of the alert.
func labels(all map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != "alertname" {
			parts = append(parts, fmt.Sprintf("%s=%q", name, all[name]))
		}
	}
	return strings.Join(parts, ", ")
}

// maxLine is how many characters of what comes from outside are put into a log.
const maxLine = 500

// line makes text fit for a line of a log, whatever it holds.
func line(text string) string {
	runes := []rune(strings.TrimSpace(text))
	cut := len(runes) > maxLine
	runes = runes[:min(len(runes), maxLine)]
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = ' '
		}
	}
	if cut {
		return string(runes) + "…"
	}
	return string(runes)
}
