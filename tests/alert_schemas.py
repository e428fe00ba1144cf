"""What the receivers publish of the messages they take, as JSON Schema."""

# Alertmanager's api/v2/openapi.yaml, postableAlerts; PagerDuty's Events API v2; Slack's incoming webhooks, attachments and section blocks.
LABELS = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}
ALERTMANAGER = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {
            "labels": LABELS,
            "annotations": LABELS,
            "startsAt": {"type": "string", "format": "date-time"},
            "endsAt": {"type": "string", "format": "date-time"},
            "generatorURL": {"type": "string", "format": "uri"},
        },
    },
}
PAGERDUTY = {
    "type": "object",
    "required": ["routing_key", "event_action", "dedup_key"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string"},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "maxLength": 255},
        "client": {"type": "string"},
        "client_url": {"type": "string"},
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "maxLength": 1024},
                "source": {"type": "string"},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "format": "date-time"},
                "component": {"type": "string"},
                "group": {"type": "string"},
                "class": {"type": "string"},
                "custom_details": {"type": "object"},
            },
        },
        "links": {
            "type": "array",
            "items": {"type": "object", "required": ["href"], "properties": {"href": {"format": "uri"}, "text": {}}},
        },
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
}
SLACK = {
    "type": "object",
    "required": ["attachments"],
    "additionalProperties": False,
    "properties": {
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["blocks"],
                "additionalProperties": False,
                "properties": {
                    "color": {"type": "string", "pattern": "^#[0-9A-F]{6}$"},
                    "blocks": {
                        "type": "array",
                        "maxItems": 50,
                        "items": {
                            "type": "object",
                            "required": ["type", "text"],
                            "additionalProperties": False,
                            "properties": {
                                "type": {"const": "section"},
                                "text": {
                                    "type": "object",
                                    "required": ["type", "text"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "type": {"enum": ["plain_text", "mrkdwn"]},
                                        "text": {"type": "string", "minLength": 1, "maxLength": 3_000},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
