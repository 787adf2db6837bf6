package boards

// The part of Grafana's dashboard model that the dashboards use. Fields are in the
// order in which Grafana writes them; what is not set is left out.

type dashboard struct {
	Annotations   annotations `json:"annotations"`
	Description   string      `json:"description"`
	Editable      bool        `json:"editable"`
	GraphTooltip  int         `json:"graphTooltip"` // 1: a crosshair in all panels
	Links         []boardLink `json:"links"`
	Panels        []panel     `json:"panels"`
	Refresh       string      `json:"refresh"`
	SchemaVersion int         `json:"schemaVersion"`
	Tags          []string    `json:"tags"`
	Templating    templating  `json:"templating"`
	Time          timeRange   `json:"time"`
	Timezone      string      `json:"timezone"`
	Title         string      `json:"title"`
	UID           string      `json:"uid"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type annotations struct {
	List []annotation `json:"list"`
}

type annotation struct {
	Datasource  source `json:"datasource"`
	Enable      bool   `json:"enable"`
	IconColor   string `json:"iconColor"`
	Name        string `json:"name"`
	TagKeys     string `json:"tagKeys"`
	Target      target `json:"target"`
	TextFormat  string `json:"textFormat"`
	TitleFormat string `json:"titleFormat"`
}

type boardLink struct {
	AsDropdown  bool     `json:"asDropdown"`
	Icon        string   `json:"icon"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
	Tags        []string `json:"tags"`
	TargetBlank bool     `json:"targetBlank"`
	Title       string   `json:"title"`
	Tooltip     string   `json:"tooltip"`
	Type        string   `json:"type"`
	URL         string   `json:"url"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	AllValue    string         `json:"allValue,omitempty"`
	Current     map[string]any `json:"current"`
	Datasource  *source        `json:"datasource,omitempty"`
	Description string         `json:"description"`
	IncludeAll  bool           `json:"includeAll"`
	Label       string         `json:"label"`
	Multi       bool           `json:"multi"`
	Name        string         `json:"name"`
	Query       any            `json:"query"`
	Refresh     int            `json:"refresh"` // 1: when the dashboard is loaded; 2: also when its time range changes
	Sort        int            `json:"sort,omitempty"`
	Type        string         `json:"type"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// panel is a panel or, with type "row" and without all but the first five fields, a
// row.
type panel struct {
	ID        int      `json:"id"`
	Type      string   `json:"type"`
	Title     string   `json:"title"`
	GridPos   grid     `json:"gridPos"`
	Collapsed *bool    `json:"collapsed,omitempty"`
	Panels    *[]panel `json:"panels,omitempty"`

	Description     string         `json:"description,omitempty"`
	Datasource      *source        `json:"datasource,omitempty"`
	FieldConfig     *fieldConfig   `json:"fieldConfig,omitempty"`
	MaxDataPoints   int            `json:"maxDataPoints,omitempty"`
	Options         map[string]any `json:"options,omitempty"`
	Targets         []target       `json:"targets,omitempty"`
	Transformations []transform    `json:"transformations,omitempty"`
}

type grid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type fieldConfig struct {
	Defaults  field      `json:"defaults"`
	Overrides []override `json:"overrides"`
}

type field struct {
	Color      *color         `json:"color,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
	Decimals   *int           `json:"decimals,omitempty"`
	Links      []dataLink     `json:"links,omitempty"`
	Mappings   []mapping      `json:"mappings,omitempty"`
	Max        *float64       `json:"max,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	NoValue    string         `json:"noValue,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Unit       string         `json:"unit,omitempty"`
}

type color struct {
	FixedColor string `json:"fixedColor,omitempty"`
	Mode       string `json:"mode"`
}

type dataLink struct {
	Title       string `json:"title"`
	URL         string `json:"url"`
	TargetBlank bool   `json:"targetBlank,omitempty"`
}

type mapping struct {
	Type    string                `json:"type"`
	Options map[string]mappedText `json:"options"`
}

type mappedText struct {
	Color string `json:"color,omitempty"`
	Index int    `json:"index"`
	Text  string `json:"text"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // null for the first
}

type override struct {
	Matcher    matcher    `json:"matcher"`
	Properties []property `json:"properties"`
}

type matcher struct {
	ID      string `json:"id"`
	Options any    `json:"options"`
}

type property struct {
	ID    string `json:"id"`
	Value any    `json:"value"`
}

type transform struct {
	ID      string `json:"id"`
	Options any    `json:"options"`
}

type target struct {
	Datasource   source `json:"datasource"`
	EditorMode   string `json:"editorMode"`
	Exemplar     bool   `json:"exemplar,omitempty"`
	Expr         string `json:"expr"`
	Format       string `json:"format"`
	Instant      bool   `json:"instant"`
	Interval     string `json:"interval,omitempty"` // the shortest step
	LegendFormat string `json:"legendFormat,omitempty"`
	Range        bool   `json:"range"`
	RefID        string `json:"refId"`
}
