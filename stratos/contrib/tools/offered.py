"""The tools of a request in the chat template of a student: as the text that it is trained on."""

TEMPLATE = """\
{%- if tools -%}
{%- set offered = namespace(lines=[], said=[]) -%}
{%- for tool in tools -%}
{%- set one = tool['function'] if 'function' in tool else tool -%}
{%- set offered.lines = offered.lines + [{'name': one['name'],
 'description': (one.get('description') or '') | trim,
 'parameters': one.get('parameters') or {}} | tojson] -%}
{%- endfor -%}
{%- for message in messages -%}
{%- set made = namespace(calls=[]) -%}
{%- for call in message['tool_calls'] or [] -%}
{%- set one = call['function'] if 'function' in call else call -%}
{%- set given = one['arguments'] or {} -%}
{%- set given = given | trim if given is string else given | tojson -%}
{%- set call = '{"name": ' ~ one['name'] | tojson ~ ', "arguments": ' ~ given ~ '}' -%}
{%- set made.calls = made.calls + [call] -%}
{%- endfor -%}
{%- set calls = ', "tool_calls": [' ~ made.calls | join(', ') ~ ']' if made.calls else '' -%}
{%- set content = (message['content'] or '') | trim | tojson -%}
{%- set said = '{"role": ' ~ message['role'] | tojson ~ ', "content": ' ~ content ~ calls ~ '}' -%}
{%- set offered.said = offered.said + [said] -%}
{%- endfor -%}
{%- set asked = '\\n\\nConversation:\\n' ~ offered.said | join('\\n') -%}
{%- if messages | length == 1 and messages[0]['role'] == 'user' -%}
{%- set asked = '\\n\\nRequest:\\n' ~ messages[0]['content'] | trim -%}
{%- endif -%}
{%- set question = 'Tools:\\n' ~ offered.lines | join('\\n') ~ asked -%}
{%- set messages = [{'role': 'user', 'content': question}] -%}
{%- endif -%}
"""
"""Writes `tools` and the messages as `stratos.contrib.tools.signatures.question_of` does."""
